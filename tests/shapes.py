"""Checks of shapes (`--jaxtyping-packages` in pyproject.toml) at a price that tests can pay.

jaxtyping compiles two checkers for every function that it decorates, which takes milliseconds: seconds before the first
test, and a hook is made anew for each layer in each step. Each call is then bound and looked at twice: together
more than half of the time of a training, which calls the same functions with the same shapes a thousand times.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import update_wrapper, wraps
from types import CodeType, FunctionType
from typing import Any

import jaxtyping

ENOUGH = 3
"""Calls of one function that are checked in each test."""
calls = Counter[CodeType]()
"""How often each function was checked in this test."""


class Running(threading.local):
    """The functions that are being checked in this thread, the innermost last: a check can ask for a property."""

    def __init__(self) -> None:
        self.functions = list[Callable[..., Any]]()


def check_cheaply() -> None:
    """From here on functions that are made in one place share one checker, made at the first call."""
    original: Callable[..., Any] = jaxtyping.jaxtyped
    checkers = dict[CodeType, Callable[..., Any]]()
    running = Running()

    def checker(function: FunctionType, decorate: Callable[[Any], Any]) -> Callable[..., Any]:
        """Checks what goes through it, and calls the innermost function that is being checked."""

        def call(*arguments: Any, **named: Any) -> Any:
            return running.functions[-1](*arguments, **named)

        # Annotations are looked up among the names that the function sees.
        seen = FunctionType(call.__code__, function.__globals__, function.__name__, None, call.__closure__)
        return decorate(update_wrapper(seen, function))

    def jaxtyped(**settings: Any) -> Callable[[Any], Any]:
        decorate = original(**settings)

        def decorated(function: Any) -> Any:
            if not isinstance(function, FunctionType):
                return decorate(function)
            code = function.__code__

            @wraps(function)
            def checked(*arguments: Any, **named: Any) -> Any:
                if calls[code] >= ENOUGH:
                    return function(*arguments, **named)
                calls[code] += 1
                if code not in checkers:
                    checkers[code] = checker(function, decorate)
                check = checkers[code]
                running.functions.append(function)
                try:
                    return check(*arguments, **named)
                finally:
                    running.functions.pop()

            return checked

        return decorated

    jaxtyping.jaxtyped = jaxtyped
