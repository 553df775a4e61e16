"""Completion of ``oxicornctl`` for shells, made from the commands there are."""

from __future__ import annotations

from oxicorn.control.commands import COMMANDS

SHELLS = ("bash", "zsh", "fish")

LEVELS = ("debug", "info", "warning", "error", "critical")
#: Commands and first arguments that are no names in ``COMMANDS``.
MORE = (
    "top",
    "show config all",
    "worker recycle all",
    "shutdown graceful",
    "shutdown quick",
    *(f"loglevel {level}" for level in LEVELS),
    *(f"completion {shell}" for shell in SHELLS),
)
FLAGS = "-s --socket -j --json --no-wait --timeout -n --count -d --delay -v --version -h --help"

_BASH = """\
_oxicornctl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" choices="{firsts}"
    case "${{COMP_WORDS[COMP_CWORD-1]}}" in
        -s|--socket) COMPREPLY=($(compgen -f -- "$word")); return;;
        -n|--count|-d|--delay|--timeout) COMPREPLY=(); return;;
{cases}
    esac
    [[ $word == -* ]] && choices="{flags}"
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
}}
complete -F _oxicornctl oxicornctl
"""

_ZSH = """\
#compdef oxicornctl
_oxicornctl() {{
    local -a choices
    choices=({firsts})
    case $words[CURRENT-1] in
        -s|--socket) _files; return;;
        -n|--count|-d|--delay|--timeout) return;;
{cases}
    esac
    [[ $words[CURRENT] == -* ]] && choices=({flags})
    compadd -a choices
}}
# A file of this in a directory of $fpath is run to complete, one that is sourced declares it.
if [[ $funcstack[1] == _oxicornctl ]]; then
    _oxicornctl "$@"
else
    (( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
    compdef _oxicornctl oxicornctl
fi
"""

_FISH = """\
complete -c oxicornctl -f
complete -c oxicornctl -s s -l socket -r -F -d "path of the control socket"
complete -c oxicornctl -s j -l json -d "print the answer as JSON"
complete -c oxicornctl -l no-wait -d "reload: do not wait for how it ends"
complete -c oxicornctl -l timeout -x -d "reload: seconds to wait"
complete -c oxicornctl -s n -l count -x -d "trace, top: end after so many requests, looks"
complete -c oxicornctl -s d -l delay -x -d "top: seconds between looks"
complete -c oxicornctl -s v -l version
complete -c oxicornctl -s h -l help
complete -c oxicornctl -n "not __fish_seen_subcommand_from {firsts}" -a "{firsts}"
{cases}
"""


def script(shell: str) -> str:
    """What the shell has to read."""
    seconds: dict[str, list[str]] = {}
    for name in [*COMMANDS, *MORE]:
        first, *rest = name.split()
        known = seconds.setdefault(first, [])
        if len(rest) == 1:
            known.append(rest[0])
        elif rest:
            # Behind the second word, which is no first one.
            seconds.setdefault(rest[0], []).append(rest[1])
    firsts = " ".join({name.split()[0]: None for name in [*COMMANDS, *MORE]})
    if shell == "fish":
        cases = "\n".join(
            f'complete -c oxicornctl -n "test (commandline -opc)[-1] = {word}" '
            f'-a "{" ".join(words)}"'
            for word, words in seconds.items()
            if words
        )
        return _FISH.format(firsts=firsts, cases=cases)
    form = (
        "        {word}) choices=({words});;"
        if shell == "zsh"
        else '        {word}) choices="{words}";;'
    )
    cases = "\n".join(
        form.format(word=word, words=" ".join(words)) for word, words in seconds.items()
    )
    return (_ZSH if shell == "zsh" else _BASH).format(firsts=firsts, cases=cases, flags=FLAGS)
