"""Prints every public name of this Python's asyncio, one a line, in the way in which the guide writes them."""

import asyncio
import asyncio.constants
import inspect
import subprocess
import sys
from asyncio import subprocess as asyncio_subprocess

# What a class has of another public one stands there; and the abstract loop's methods are those of "the loop".
NAMED = {"AbstractEventLoop": "loop", "BoundedSemaphore": "Semaphore"}


def public(names):
    return sorted(name for name in names if not name.startswith("_"))


def members(cls, classes):
    inherited = set()
    for base in cls.__mro__[1:]:
        if base in classes or issubclass(base, BaseException) or base is object:
            inherited.update(dir(base))
    for name in public(set(dir(cls)) - inherited):
        print(f"{NAMED.get(cls.__name__, cls.__name__)}.{name}")


classes = [value for value in vars(asyncio).values() if inspect.isclass(value)]
for name in asyncio.__all__:
    print(f"asyncio.{name}")
    value = getattr(asyncio, name)
    if inspect.isclass(value) and value is not TimeoutError:
        members(value, classes)

# A module of its own, whose names are not in the list.
for name in ("PIPE", "STDOUT", "DEVNULL", "Process", "SubprocessStreamProtocol"):
    assert hasattr(asyncio_subprocess, name)
    print(f"subprocess.{name}")
members(asyncio_subprocess.Process, classes)

for name in public(vars(asyncio.constants)):
    if name.isupper():
        print(f"constants.{name}")

# Attributes that only instances have.
for name in (
    "loop.slow_callback_duration",
    "IncompleteReadError.partial",
    "IncompleteReadError.expected",
    "LimitOverrunError.consumed",
    "Process.stdin",
    "Process.stdout",
    "Process.stderr",
    "Process.pid",
    "PYTHONASYNCIODEBUG",
):
    print(name)

functions = [getattr(asyncio, name) for name in public(asyncio.__all__)]
functions += [getattr(asyncio.SelectorEventLoop, name) for name in public(dir(asyncio.SelectorEventLoop))]
keywords = set()
for function in functions + [subprocess.Popen]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        continue
    keywords.update(p.name for p in parameters if p.default is not p.empty)
# Arguments that are given by their place.
keywords -= {"args", "bufsize", "client_connected_cb", "delay", "exception", "extra", "handler", "msg", "n", "nbytes"}
keywords -= {"result", "separator", "when"}
for name in public(keywords):
    print(f"{name}=")

print("version", *sys.version_info[:2], file=sys.stderr)
