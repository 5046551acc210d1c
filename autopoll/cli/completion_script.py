"""`autopoll completion`: what a shell is given to complete our commands."""

import click
from click.shell_completion import ShellComplete, get_completion_class

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.cli.render import print_json

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    fields='{"shell","script"}',
    example='eval "$(autopoll completion bash)"                 # in ~/.bashrc\n'
    'eval "$(autopoll completion zsh)"                  # in ~/.zshrc, after compinit\n'
    "autopoll completion fish > ~/.config/fish/completions/autopoll.fish",
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(cli: CommandLine, shell: str) -> None:
    """Print the script by which SHELL completes commands, options, shards, processes and ids."""
    from autopoll.cli import COMPLETING, commands

    kind = get_completion_class(shell)
    assert kind is not None
    # That of bash would run bash to learn its version.
    script = ShellComplete.source(kind(commands, {}, "autopoll", COMPLETING))
    # That of fish would cut words at their first comma, and several shards are one word.
    script = script.replace('(string split "," $', '(string split --max 1 "," $')
    if cli.json:
        print_json({"shell": shell, "script": script})
    else:
        say(script, nl=False)
