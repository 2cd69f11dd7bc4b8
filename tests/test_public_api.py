"""Every module says what is public: each name in `__all__` is real, and no public class or function is left out.

That it is sorted is ruff's to say (RUF022). Constants may stay out: tables and limits are reached by their module.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PACKAGES = ("libstaragent", "agentd", "opsconsole", "p2p")


def module_files() -> list[Path]:
    """Every module; programs (`__main__`) and migrations, which run on import, have no public names."""
    return [
        path.relative_to(CHECKOUT)
        for package in PACKAGES
        for path in sorted((CHECKOUT / package).rglob("*.py"))
        if path.name != "__main__.py" and "migrations" not in path.parts
    ]


def defined_names(tree: ast.Module) -> set[str]:
    """The public classes and functions at the top of a module, those under an `if` or `try` included."""
    names: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        statement = pending.pop()
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.If | ast.Try):
            pending += [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]
    return {name for name in names if not name.startswith("_")}


def listed_names(tree: ast.Module) -> list[str] | None:
    """What the module's `__all__` holds, or None where it has none."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.Tuple(elts=names)):
                return [name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)]
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AnnAssign(target=ast.Name(id="__all__")):
                pytest.fail("`__all__` is a plain tuple of names here", pytrace=False)
            case _:
                pass
    return None


@pytest.mark.parametrize("path", module_files(), ids=str)
def test_a_module_lists_its_public_names(path: Path) -> None:
    tree = ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))
    defined, listed = defined_names(tree), listed_names(tree)
    if listed is None:
        assert not defined, f"{path} has no __all__ and defines {sorted(defined)}"
        return
    assert len(set(listed)) == len(listed)
    assert not any(name.startswith("_") for name in listed if name != "__version__")
    assert defined <= set(listed), f"public and not in __all__: {sorted(defined - set(listed))}"

    parts = path.with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    missing = [name for name in listed if not hasattr(module, name)]
    assert not missing, f"in __all__ and not there: {missing}"
