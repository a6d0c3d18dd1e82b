"""What tests of agents need: a pytest plugin with a real server and a namespace per test (`plugin.py`), and
`FakeRun` and `FakeContext` for tests that need no server (`doubles.py`).

Nothing in here may be imported by the code that is tested. The doubles load at first use: the plugin is
loaded by every test run on a machine that has Roost.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roost.testing.doubles import FakeContext, FakeRun

__all__ = ["FakeContext", "FakeRun"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from roost.testing import doubles

        return getattr(doubles, name)
    raise AttributeError(f"module 'roost.testing' has no attribute {name!r}")
