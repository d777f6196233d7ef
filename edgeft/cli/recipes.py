"""`edgeft recipe`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from edgeft import recipe
from edgeft.cli.app import Json, app, print_json

recipe_app = App(name="recipe", help="List and show recipes, their schema and their options.")
app.command(recipe_app)


@recipe_app.command(name="list")
def recipe_list(*, json: Json = False) -> None:
    """The built-in recipes."""
    names = recipe.builtin_names()
    print("\n".join(names))
    if json:
        print_json(names)


@recipe_app.command(name="show")
def recipe_show(
    name: str, *, set: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None
) -> None:
    """A recipe with every default written out.

    Args:
        name: recipe file or built-in recipe.
        set: any option, as in --set distill.epochs=2.
    """
    print(recipe.to_yaml(recipe.load(name, recipe.parse_settings(set or []))), end="")


@recipe_app.command(name="schema")
def recipe_schema() -> None:
    """The JSON Schema of a recipe."""
    print_json(recipe.json_schema())


@recipe_app.command(name="docs")
def recipe_docs() -> None:
    """Every option as Markdown, as in docs/recipe.md."""
    print(recipe.markdown(), end="")
