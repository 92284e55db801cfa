"""What the parsers of all commands share: how they report a mistake, and the kinds of values that options take."""

from __future__ import annotations

import argparse
import math
from datetime import UTC, datetime
from typing import NoReturn, TypeAlias, final

from runtime.cli.wrong_usage import WrongUsage

EXIT_CODES = "exit codes: 0 it went well, 1 the run failed, 2 the command line is wrong, 130 interrupted"


@final
class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        """Report what is wrong on one line."""
        raise WrongUsage(f"{message} (see {self.prog} --help)")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # pyright: ignore[reportPrivateUsage]
"""What commands are added to; argparse has no public name for it."""
RAW = argparse.RawDescriptionHelpFormatter


def to_port(text: str) -> int:
    """A port, 0 to 65535."""
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535. Got: {text}")
    return int(text)


def add_models(parser: Parser) -> None:
    """The options that choose language models."""
    parser.add_argument("--model", metavar="MODEL", help="the model of every node that has no other, such as openai/gpt-4o-mini")
    parser.add_argument(
        "--lm", metavar="NAME=MODEL", type=to_named_model, action="append", default=[], help="the model of nodes with lm='NAME'"
    )
    parser.add_argument("--api-base", metavar="URL", help="the address of the provider of all these models")


def to_count(text: str) -> int:
    """A whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0. Got: {text}")
    return int(text)


def to_dollars(text: str) -> float:
    """A sum above 0, in US dollars."""
    return _number(text, "an amount above 0, in US dollars", 0.0, math.inf)


def to_probability(text: str) -> float:
    """A number between 0 and 1."""
    return _number(text, "a probability between 0 and 1, such as 0.05", 0.0, 1.0)


def to_share(text: str) -> float:
    """A share above 0, and below 1."""
    return _number(text, "a share between 0 and 1, such as 0.1", 0.0, 1.0)


def _number(text: str, expected: str, above: float, below: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not above < value < below:
        raise argparse.ArgumentTypeError(f"expected {expected}. Got: {text}")
    return value


def to_time(text: str) -> datetime:
    """A time; without a zone it is in UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-28T18:00Z. Got: {text}") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def to_named_model(text: str) -> tuple[str, str]:
    """``NAME=MODEL``, as the two."""
    name, _, model = text.partition("=")
    if not name or not model:
        raise argparse.ArgumentTypeError(f"expected NAME=MODEL, such as large=openai/gpt-4o. Got: {text}")
    return name, model


def to_path_value(text: str) -> tuple[str, str]:
    """``PATH=VALUE``, as the two."""
    path, _, value = text.partition("=")
    if not path or not value:
        raise argparse.ArgumentTypeError(f"expected PATH=VALUE, such as letters/send/0=repeat. Got: {text}")
    return path, value


def to_seconds(text: str) -> float:
    """Seconds, above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0. Got: {text}")
    return seconds
