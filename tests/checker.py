"""What holds calls to the annotations of the package: beartype; an int may stand for a float, as usual."""

import functools
import typing
from collections.abc import Callable
from inspect import isclass
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
original = jaxtyping.jaxtyped


def jaxtyped(function: Any = None, *, typechecker: Callable) -> Any:
    """In the place of `jaxtyping.jaxtyped`, where trainings in the tests spent half of their time.

    That one checks arguments again with the result, and keeps the sizes of functions that state none.
    """
    if function is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if isclass(function):
        return original(function, typechecker=typechecker)
    written = function.__annotations__
    hints = {name: known(hint, function.__globals__) for name, hint in written.items()}
    stated = [shape for hint in hints.values() for shape in shapes(hint)]
    if any("{" in shape for shape in stated):  # the size is that of an argument
        return original(function, typechecker=typechecker)
    function.__annotations__ = hints
    checked = typechecker(function)
    function.__annotations__ = written

    @functools.wraps(function)
    def held(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if not stated:
            return checked(*args, **kwargs)
        with original("context"):
            return checked(*args, **kwargs)

    return held


def known(hint: Any, names: dict[str, Any]) -> Any:
    """An annotation written as text; `Any` for what is imported by type checkers only."""
    try:
        return eval(hint, names) if isinstance(hint, str) else hint
    except NameError:
        return Any


def shapes(hint: Any) -> list[str]:
    """Those that an annotation states."""
    if isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return [hint.dim_str]
    return [shape for part in typing.get_args(hint) for shape in shapes(part)]
