"""tmp"""

import typer

app = typer.Typer()


@app.command()
def eval() -> None: ...
