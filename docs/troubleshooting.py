"""Writes what each error means and how to fix it, from the error classes and from the problems that the check can report.

A class without a line in ``FIXES`` fails the build, so an error that is added is explained here too.
"""

import ast
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path

from actors import errors, message_errors, placement_errors, store_errors

ROOT = Path(__file__).parents[1]
CHECKS = ("actors/graphs", "runtime/lm/dspy/predict_checks.py", "runtime/lm/tools/tool_checks.py")
"""Where problems of graphs are made."""
CODE = re.compile(r"[a-z]+(-[a-z]+)+")

FIXES = {
    "UnderstudyError": "Catch it to handle every error of this project; `retryable` tells whether another try can help.",
    "DeclarationError": "Read the `Fix:` line of the message: it is the line to write.",
    "UsageError": "Read the `Fix:` line; the call is at the wrong place, at the wrong time, or has a wrong value.",
    "InternalError": "Please report it with its whole text; nothing that you wrote should cause it.",
    "GraphInvalid": "Go through `error.problems`, or run `understudy graph check FILE.py:NAME`; the codes are below.",
    "AskCycle": "Use `tell` in one direction, or `context.reply_later()`, so no actor waits while it is waited for.",
    "RuntimeDraining": "Send the run to another process; this one is shutting down. A service answers 503.",
    "ActorError": "Catch it where any failure of another actor is handled alike; `error.address` is the actor's.",
    "ActorFailed": "Look at `error.__cause__` and at the line it names. An expected error is an answer: `return Failure(error)`.",
    "Unhandled": "Add a case to `receive`, or send the message to the actor that knows it.",
    "ActorStopped": "Spawn it again, or give it `restart=RestartType.PERMANENT`; `await ref.ended()` tells why it ended.",
    "ActorStartFailed": "Look at `__cause__`: the constructor or `lifespan` raised. A first start is not tried again.",
    "ActorIdle": "Call `context.heartbeat()` in long work, or raise `idle_timeout_s`.",
    "MailboxFull": "Slow the sender down (`Overflow.BLOCK`), add actors (`Pool`), or raise `MailboxSpec(capacity=…)`.",
    "RestartsExhausted": "Fix `__cause__`, the last failure. For long outages: `Supervision(exhausted=Exhausted.PARK)`.",
    "SupervisionError": "See the class that was raised; `error.child_id` is the child.",
    "TooManyChildren": "Stop or delete children, wait for some to end, or raise `Supervision(max_children=…)`.",
    "ChildNotFound": "Compare the id with `await supervisor.which_children()`; temporary children are forgotten when they end.",
    "ChildAlreadyStarted": "Use its ref, or another id.",
    "ChildAlreadyPresent": "`restart_child(id)`, or `delete_child(id)` and start it again.",
    "ChildRunning": "`terminate_child(id)` first.",
    "ChildRestarting": "Wait, or `terminate_child(id)` first.",
    "RunError": "`error.trace` has the steps of the run; catch the class that you can do something about.",
    "NodeFailed": "Look at `__cause__`, `node` and `input`. Another try may help: `redelivery=`; a substitute: `fallback=`.",
    "RunFailed": "Go through `error.exceptions`: each leaf is a `NodeFailed`. `except* NodeFailed` handles them.",
    "NodeTimedOut": "Raise `timeout_s`, or make the node faster; a node that streams may need `idle_timeout_s` instead.",
    "StreamBroken": "Write `repeatable=True` if all attempts yield the same items, or catch the error in the generator.",
    "DepError": "Look at `__cause__`: the function of the `Dep` raised, or its context manager did.",
    "RecallError": "Recall a type that is made on the way to this node, or write `Annotated[T | None, Recall()]`.",
    "NoOutput": "The message names the joins that still waited: give the node that returned `None` there something to return.",
    "RunCancelled": "If you didn't cancel it, look for `handle.cancel()`, `stop`, or the end of the runtime.",
    "StepsExceeded": "Look for a cycle that never returns the output or `None`; or raise `max_steps`.",
    "RoundsExceeded": "Raise `max_rounds`, give the node a `fallback`, or tools whose answers settle the question.",
    "ToolTimedOut": "Raise the tool's `timeout_s`, or let the tool answer in parts.",
    "ConversationBusy": "Try again when the turn is over, or choose another `Policy`.",
    "ToolFailed": "Read the server's words in the message; by default the model is told, and may call again (`on_tool_error`).",
    "ToolRefused": "The model has read the reason. Ask the person who declined, or change which calls need approval.",
    "ToolServerLost": "Try again: supervision restarts the server. If it stays away, start its command by hand and look.",
    "LMError": "See the class that was raised; `status`, `attempt` and `model` tell which request it was.",
    "LMRateLimited": "Set `rpm` and `tpm` to what your account may use, add `fallbacks`, or ask the provider for more.",
    "LMUnavailable": "The client has tried again already; add `fallbacks`, and look at the provider's status and your proxy.",
    "LMTimeout": "Raise the client's `deadline_s`, ask for a shorter answer, or use `hedge`.",
    "LMAuthFailed": "Set the provider's key (`OPENAI_API_KEY`, …) in the environment of this process, and check its rights.",
    "LMBadRequest": "Read the provider's words in the message: usually the model's name, or an option that it doesn't take.",
    "LMContextTooLong": "Send less, split the work by a fan-out, or use a model with a larger context (also as a fallback).",
    "LMRefused": "Change the prompt or the input; a `fallback` may answer instead.",
    "LMBudgetExhausted": "Raise the `Budget`, lower `max_tokens`, or accept it: this is what a budget is for.",
    "LMReplyUnreadable": "Use simpler types, a better model, or more `parse_attempts`.",
    "LMTruncated": "Raise `max_tokens`, or write `truncated='widen'`.",
    "MessageInvalid": "Go through `error.problems`: each has the place in the value and what was expected there.",
    "StoreError": "See the class that was raised; what was acknowledged before is kept.",
    "StoreUnavailable": "Look at the disk and the server; runs wait meanwhile and go on afterwards.",
    "StoreInUse": "End the other process, or use PostgreSQL, which several processes share.",
    "StoreTooNew": "Run the newer release of understudy, or restore the copy from before the upgrade.",
    "StoreDamaged": "Run `understudy store check`, which lists all damage, and put a copy of the store in its place.",
    "NotStorable": "Change the field that the message names to a type that JSON gives back: see [](../design/messages.md).",
    "RecordTooLarge": "Store the large value elsewhere, and put its name into the message.",
    "NameLost": "register it again; let what it writes outside carry the fence.",
    "RunLost": "Nothing: another worker goes on with the run. If it happens often, look for what blocks the event loop.",
    "RunParked": "Read `reason` and `understudy runs show ID`, then `await runtime.resume(run_id)`.",
    "StepUncertain": 'Find out whether it took effect; `await runtime.resume(run_id, uncertain={path: result})`, or `"repeat"`.',
    "RunChanged": "Deploy the graph that the run began with, and `await runtime.resume(run_id)`. Next time: `Graph(version=…)`.",
    "RunCrashes": "Look at why the process died (out of memory, most often), then `await runtime.resume(run_id)`.",
    "RunUndecodable": "Give the type back its old fields, new ones with defaults, and `await runtime.resume(run_id)`.",
    "RunExists": "Use another `run_id`, or the same graph and input: those give you the run that exists.",
    "AlreadyAnswered": "Nothing: the first answer counts.",
    "HostLost": "Nothing, if it happens seldom: the host is started again. Else look at its memory and at what it was killed by.",
    "HostRefused": "Install the same version of your code where the runtime and its hosts run.",
    "OwnerLost": "Send it again if handling it twice does no harm: another owner starts the actor. Look at what killed this one.",
    "PlaceUnavailable": "Look at the events of the place for why no host starts; raise `start_timeout_s` if that is slow.",
    "NotPortable": "Send what is of a declared message type, or run the node without `place`.",
    "MessageTooLarge": "Keep the large value in a file or a blob store, and let the message say where.",
    "RemoteError": "Read `trace`: it is the traceback of the host. An error of your own class arrives as this one.",
    "UnknownRun": "Compare the id with `understudy runs list`, and the store with the one that the run was started with.",
}


def classes(module: types.ModuleType) -> list[type[BaseException]]:
    """The error classes of `module`, in the order in which they are written."""
    own = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, BaseException)]
    return [each for each in own if each.__module__ == module.__name__]


def plain(text: str) -> str:
    """A docstring's first paragraph as Markdown on one line."""
    first = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return re.sub(r"`+", "`", re.sub(r":\w+:`", "`", first))


def error_entries(module: types.ModuleType) -> Iterator[str]:
    """One entry for each class: what it is, how to fix it."""
    for each in classes(module):
        retryable = getattr(each, "retryable", None)
        again = {True: " *Retryable.*", False: " *Not retryable.*", None: ""}[retryable]
        place = f"{{#{each.__name__.lower()}}}"
        yield f"`{each.__name__}`{place}\n: {plain(each.__doc__ or '')}{again}\n: **Fix:** {FIXES[each.__name__]}\n"


def words(node: ast.expr) -> str:
    """What an expression of a message says, with … for what is only known when it is raised."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join("…" if isinstance(part, ast.FormattedValue) else words(part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return words(left) + words(right)
        case ast.IfExp(body=body):
            return words(body)
        case ast.BoolOp(values=values):
            return words(values[-1])
        case _:
            return "…"


def problems() -> dict[str, list[tuple[str, str]]]:
    """What each code is reported with, as (what is wrong, what to write)."""
    found: dict[str, list[tuple[str, str]]] = {}
    files = [
        file for place in CHECKS for file in ([ROOT / place] if place.endswith(".py") else sorted((ROOT / place).glob("*.py")))
    ]
    for call in (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)):
        for place, argument in enumerate(call.args):
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str) and CODE.fullmatch(argument.value)):
                continue
            rest = call.args[place + 1 :]
            texts = rest[1:3] if ast.unparse(call.func) == "Problem" else rest[:2]
            what, fix = ([re.sub(r"^…[.:,]\s*(so |and )?", "", words(each)).strip() for each in texts] + ["", ""])[:2]
            entries = found.setdefault(argument.value, [])
            if re.search(r"\w{3}", what) and all(what != known for known, _ in entries):
                entries.append((what, fix if re.search(r"\w{3}", fix) else "the message has the line to write."))
    return dict(sorted(found.items()))


def safe(text: str) -> str:
    """Text of a message, in which nothing is Markdown."""
    return re.sub(r"([\\*_`<>\[\]$|#])", r"\\\1", text)


def problem_entries() -> Iterator[str]:
    """One entry for each code."""
    for code, entries in problems().items():
        lines = [f": {safe(what)} **Fix:** {safe(fix)}" for what, fix in entries] or [": The message has the reason and the fix."]
        yield "\n".join([f"`{code}`{{#{code}}}", *lines, ""])


def write(folder: Path) -> None:
    """Write the lists into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, module in (
        ("errors", errors),
        ("message-errors", message_errors),
        ("store-errors", store_errors),
        ("placement-errors", placement_errors),
    ):
        (folder / f"{name}.md").write_text("\n".join(error_entries(module)), encoding="utf-8")
    (folder / "problems.md").write_text("\n".join(problem_entries()), encoding="utf-8")
