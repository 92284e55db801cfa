"""SQL agent: a model looks at the tables, writes a query, and corrects it when the database complains."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attrs
import trio

from actors import Dep, Graph
from runtime import open_runtime

ROWS = [("Ada", "UK", 3), ("Bo", "Norway", 5), ("Cy", "Norway", 2)]


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str
    sql: str


@asynccontextmanager
async def database() -> AsyncIterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE sales (name TEXT, country TEXT, amount INTEGER)")
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", ROWS)
    connection.execute("PRAGMA query_only = ON")
    yield connection
    connection.close()


async def tables(db: Annotated[sqlite3.Connection, Dep(database)]) -> list[str]:
    """The statements that made the tables."""
    return [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")]


async def query(sql: str, db: Annotated[sqlite3.Connection, Dep(database)]) -> list[list[Any]]:
    """Run one SELECT and give at most 20 rows.

    Args:
        sql: the statement, in the dialect of SQLite
    """
    return [list(row) for row in db.execute(sql).fetchmany(20)]


graph = Graph("sql-agent", input=Question, output=Answer)


@graph.predict(tools=[tables, query])
async def answer(question: Question) -> Answer:
    """Answer from the database. Look at its tables first; if a query fails, correct it."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Question("Which country bought most?")))


if __name__ == "__main__":
    trio.run(main)
