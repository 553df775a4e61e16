"""Completion of ``oxicornctl`` for shells, made from the commands there are."""

from __future__ import annotations

from oxicorn.control.commands import COMMANDS

SHELLS = ("completion bash", "completion zsh", "completion fish")

_BASH = """\
_oxicornctl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" choices="{firsts}"
    case "${{COMP_WORDS[COMP_CWORD-1]}}" in
        -s|--socket) COMPREPLY=($(compgen -f -- "$word")); return;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
}}
complete -F _oxicornctl oxicornctl
"""

_FISH = """\
complete -c oxicornctl -f
complete -c oxicornctl -s s -l socket -r -F
complete -c oxicornctl -s j -l json
complete -c oxicornctl -n __fish_use_subcommand -a "{firsts}"
{cases}
"""


def script(shell: str) -> str:
    """What the shell has to read."""
    seconds: dict[str, list[str]] = {}
    levels = (f"loglevel {level}" for level in ("debug", "info", "warning", "error", "critical"))
    more = ("top", "shutdown graceful", "shutdown quick", *levels, *SHELLS)
    for name in [*COMMANDS, *more]:
        first, _, second = name.partition(" ")
        seconds.setdefault(first, []).extend([second] if second else [])
    firsts = " ".join(seconds)
    if shell == "fish":
        cases = "\n".join(
            f'complete -c oxicornctl -n "__fish_seen_subcommand_from {first}" '
            f'-a "{" ".join(words)}"'
            for first, words in seconds.items()
            if words
        )
        return _FISH.format(firsts=firsts, cases=cases)
    cases = "\n".join(
        f'        {first}) choices="{" ".join(words)}";;' for first, words in seconds.items()
    )
    text = _BASH.format(firsts=firsts, cases=cases)
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text
