#!/usr/bin/env python3
"""Refuse shell commands that cancel jobs, or submit them past hpc-agent. A PreToolUse hook of Claude Code.

Standard input has the call as JSON; the answer is a decision as JSON, or nothing: then the usual rules hold. The command
is read as a shell reads it, through quotes, wrappers, substitutions, pipes and ssh. It is no fence against somebody who
wants to get around it: files, variables of the session and encoded text are not looked into.

One file without imports of hpc-agent: setup copies it, and the system's python3 (3.8 or newer) runs it.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from collections.abc import Callable, Container
from typing import NamedTuple

CANCEL = frozenset(("scancel", "qdel"))
SUBMIT = frozenset(("sbatch", "srun", "salloc", "qsub", "qrsh", "qlogin", "qsh", "qresub"))
DENIED = CANCEL | SUBMIT
_NAMES = "|".join(sorted(DENIED))
_NAMED = re.compile(rf"(?<![\w.-])(?:[\w.~/-]*/)?({_NAMES})(?![\w.=-])")
# A call of these with one such option only tells something.
_TELLS = frozenset(("--help", "-help", "--version", "-V", "--usage", "-h"))
DEEPEST = 12

SHELLS = frozenset("sh bash dash zsh ksh mksh fish csh tcsh ash rbash".split())
SSH = frozenset("ssh gsissh autossh slogin rsh mosh".split())
SSH_VALUES = "bcDEeFIiJLlmOopQRSWwBP"
CODE = frozenset(
    "python python2 python3 pypy pypy3 perl ruby node lua php expect tclsh Rscript awk gawk mawk nawk".split()
)
_CODE_CALL = re.compile(
    r"\bsystem\b|popen|subprocess|spawn|\bexec[lvpe]*\b|exec(?:Sync|File)|getoutput|\b(?:run|call)\s*\(|\bqx\b|`",
    re.IGNORECASE,
)
_AWK_CALL = re.compile(r"system|\|\s*\"|\"\s*\|")
RESERVED = frozenset("if then elif else fi do done while until ! { } coproc esac".split())


class Prefix(NamedTuple):
    """A program that runs the command after its own options: options with a value, operands before the command."""

    values: str = ""
    long: str = ""
    operands: int = 0


PREFIXES = {
    "sudo": Prefix(
        "ugpCDhRrTtU", "user group prompt chdir host chroot role type other-user close-from command-timeout"
    ),
    "doas": Prefix("uC"),
    "env": Prefix("uC", "unset chdir"),
    "nice": Prefix("n", "adjustment"),
    "ionice": Prefix("cn", "class classdata"),
    "timeout": Prefix("ks", "kill-after signal", 1),
    "gtimeout": Prefix("ks", "kill-after signal", 1),
    "time": Prefix("fo", "format output"),
    "stdbuf": Prefix("ioe", "input output error"),
    "xargs": Prefix("adEILnPs", "arg-file delimiter max-lines max-args max-procs max-chars replace process-slot-var"),
    "parallel": Prefix("jNLIS", "jobs max-args delay timeout joblog results retries colsep arg-file sshlogin"),
    "exec": Prefix("a"),
    "strace": Prefix("eoEuPpsSIabO", "trace output"),
    "ltrace": Prefix("eonulsp"),
    "chroot": Prefix("", "userspec groups", 1),
    "taskset": Prefix("", "", 1),
    "chrt": Prefix("TPD", "", 1),
    "numactl": Prefix("NmCpi", "cpunodebind membind physcpubind preferred interleave"),
    "nsenter": Prefix("tSG", "target setuid setgid"),
    "unshare": Prefix("", "root wd"),
    "runuser": Prefix("ugGs", "user group shell"),
    "systemd-run": Prefix("puEMHd", "unit property setenv machine host description uid gid"),
    "faketime": Prefix("", "", 1),
    "entr": Prefix(),
    "flock": Prefix("wE", "timeout conflict-exit-code", 1),
    "mpirun": Prefix("n", "np hostfile host"),
    "mpiexec": Prefix("n", "np hostfile host"),
    **dict.fromkeys(
        "nohup setsid builtin command chronic unbuffer dbus-run-session firejail prlimit setarch torsocks proxychains "
        "catchsegv eatmydata fakeroot caffeinate busybox nocache noglob nocorrect".split(),
        Prefix(),
    ),
}
# Programs with a word (run, exec) before the command of another place, and its options with a value and operands.
_CONTAINER = {"exec": Prefix("euw", "env user workdir", 1), "run": Prefix("evuw", "env volume user workdir name", 1)}
_ENVIRONMENT = {"run": Prefix("npe", "name prefix cwd python with extra env")}
INSIDE = {
    **dict.fromkeys("conda mamba micromamba uv poetry pixi pipenv hatch rye pdm".split(), _ENVIRONMENT),
    **dict.fromkeys(("docker", "podman"), _CONTAINER),
    **{name: {"exec": Prefix("BHW", "bind env home pwd", 1)} for name in ("singularity", "apptainer")},
    "kubectl": {"exec": Prefix("nc", "namespace container", 1)},
    "git": {"bisect": Prefix("", "", 1), "submodule": Prefix("", "", 1)},
}
# The command is one text, or its words joined.
JOINED = {
    "eval": "",
    "watch": "n",
    "trap": "",
    "tmux": "",
    "screen": "SceTh",
    "sg": "",
    "pdsh": "wxlftu",
    "clush": "wxlfug",
}


class Word(NamedTuple):
    """A word of a command: (kind, text) of its parts. Kinds: bare, quoted, var, quoted-var, sub, array."""

    parts: tuple[tuple[str, str], ...]
    raw: str


class Token(NamedTuple):
    """An operator, or a word; ``body`` is what a here-document holds."""

    operator: str = ""
    word: Word | None = None
    body: str = ""


class Command(NamedTuple):
    """A simple command, with the texts that its standard input may hold; ``raw`` is its source."""

    words: list[Word]
    inputs: list[str]
    piped: bool
    raw: str


class Arg(NamedTuple):
    """A word as the command gets it. ``inner``: the source of substitutions whose result is not known."""

    text: str
    inner: str = ""


class Lexer:
    """Reads shell source into tokens."""

    _OPERATORS = re.compile(r"&>>|&>|<<<|<<-|;;&|\|&|&&|\|\||;;|;&|<<|>>|<&|>&|>\||<>|[;&|()<>\n]")
    _HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1[^\n]*\n(?:.*\n)*?\t*\2(?=[\n)]|$)")
    _VARIABLE = re.compile(r"\$(\w+|[@*#?$!-])")

    def __init__(self, text: str) -> None:
        self.text = text.replace("\\\n", "")
        self.at = 0
        self.tokens: list[Token] = []
        self.waiting: list[tuple[int, str, bool]] = []  # here-documents: token, delimiter, tabs are stripped

    def read(self) -> list[Token]:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r":
                self.at += 1
            elif char == "#":
                self.at = (self.text.find("\n", self.at) + 1 or len(self.text) + 1) - 1
            elif (found := self._OPERATORS.match(self.text, self.at)) and not self._substitutes_process():
                self._operator(found.group())
            else:
                self._add_word()
        return self.tokens

    def _substitutes_process(self) -> bool:
        return self.text[self.at : self.at + 2] in ("<(", ">(")

    def _operator(self, operator: str) -> None:
        self.at += len(operator)
        self.tokens.append(Token(operator))
        if operator == "\n":
            for index, delimiter, strips in self.waiting:
                self.tokens[index] = self.tokens[index]._replace(body=self._here_document(delimiter, strips))
            self.waiting = []

    def _here_document(self, delimiter: str, strips: bool) -> str:
        lines = []
        while self.at < len(self.text):
            line, _, _ = self.text[self.at :].partition("\n")
            self.at += len(line) + 1
            if (line.lstrip("\t") if strips else line) == delimiter:
                break
            lines.append(line)
        return "\n".join(lines)

    def _add_word(self) -> None:
        start, parts = self.at, self._parts("")
        word = Word(tuple(parts), self.text[start : self.at])
        self.tokens.append(Token(word=word))
        if len(self.tokens) > 1 and self.tokens[-2].operator in ("<<", "<<-"):
            delimiter = "".join(text for _, text in parts)
            self.waiting.append((len(self.tokens) - 1, delimiter, self.tokens[-2].operator == "<<-"))

    def _parts(self, end: str) -> list[tuple[str, str]]:
        """Return the parts up to ``end``: a double quote, or the end of a word."""
        parts: list[tuple[str, str]] = []
        literal, variable = ("quoted", "quoted-var") if end else ("bare", "var")
        while self.at < len(self.text):
            char, pair = self.text[self.at], self.text[self.at : self.at + 2]
            if end and char == end:
                self.at += 1
                return parts
            if not end and (char in " \t\r\n;&|)" or (char in "<>" and pair not in ("<(", ">("))):
                break
            if not end and char == "(":
                if not (parts and re.fullmatch(r"\w+\+?=", parts[-1][1])):
                    break
                parts.append(("array", self._nested(1)))
            elif not end and (char in "'\"" or pair in ("$'", '$"')):
                parts += self._quoted()
            elif char in "\\`$<>" and (special := self._special(char, pair, variable)) is not None:
                parts += special
            else:
                self.at += 1
                if parts and parts[-1][0] == literal == "bare":
                    parts[-1] = (literal, parts[-1][1] + char)
                else:
                    parts.append((literal, char))
        if end:
            raise ValueError("a quote is not closed")
        return parts

    def _special(self, char: str, pair: str, variable: str) -> list[tuple[str, str]] | None:
        """Return the parts of an escaped character, a substitution or a variable; None for a character like any other."""
        if char == "\\":
            self.at += 2
            stays = variable == "quoted-var" and pair[1:] not in ("$", "`", '"', "\\")
            return [("quoted", pair if stays else pair[1:])]
        if char == "`":
            return [("sub", self._until("`").replace("\\`", "`"))]
        if pair == "$(" or (variable == "var" and pair in ("<(", ">(")):
            return [("sub", self._nested(2))]
        if pair == "${":
            return self._variable(self._nested(2, "{", "}"), variable)
        if found := self._VARIABLE.match(self.text, self.at):
            self.at = found.end()
            return [(variable, found[1])]
        return None

    def _quoted(self) -> list[tuple[str, str]]:
        dollar = self.text[self.at] == "$"
        self.at += dollar
        if self.text[self.at] == '"':
            self.at += 1
            return self._parts('"') or [("quoted", "")]
        if not dollar:
            close = self.text.index("'", self.at + 1)
            inner, self.at = self.text[self.at + 1 : close], close + 1
            return [("quoted", inner)]
        return [("quoted", unescaped(self._until("'")))]

    def _until(self, mark: str) -> str:
        """Return the text up to the next ``mark`` that no backslash stands before."""
        start = self.at + 1
        at = start
        while self.text[at : at + 1] != mark:
            if at >= len(self.text):
                raise ValueError(f"{mark} is not closed")
            at += 2 if self.text[at] == "\\" else 1
        self.at = at + 1
        return self.text[start:at]

    def _nested(self, skip: int, opening: str = "(", closing: str = ")") -> str:
        """Return the text up to the bracket that closes; brackets in quotes do not count."""
        self.at += skip
        start, depth = self.at, 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if found := self._HERE_DOCUMENT.match(self.text, self.at):
                self.at = found.end()  # quotes in its lines close nothing
                continue
            if char in "'\"`":
                quote = self.text.find(char, self.at + 1) if char == "'" else -1
                if char == "'":
                    self.at = quote + 1 if quote >= 0 else len(self.text)
                else:
                    self._until(char)
                continue
            depth += (char == opening) - (char == closing)
            self.at += 2 if char == "\\" else 1
            if not depth:
                return self.text[start : self.at - 1]
        raise ValueError(f"{opening} is not closed")

    @staticmethod
    def _variable(inner: str, kind: str) -> list[tuple[str, str]]:
        """Return the parts of ``${...}``: the variable, and its default."""
        name = re.match(r"[!#]?(\w+|[@*])(\[[@*\d]+\])?", inner)
        if name is None:
            return []
        default = re.match(r":?[-=+](.*)", inner[name.end() :], re.DOTALL)
        return [(kind, name[1])] + ([("bare", default[1])] if default else [])


def unescaped(text: str) -> str:
    r"""Return a text of ``$'...'`` or of printf with its escapes resolved: \n, \x73, \163."""
    names = {"n": "\n", "t": "\t", "r": "\r", "a": "", "b": "", "e": ""}

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        return chr(int(code, 8)) if code[0] in "01234567" else names.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", one, text, flags=re.DOTALL)


class Splitter:
    """Splits tokens into simple commands; words that a shell does not run as commands are left out."""

    def __init__(self, tokens: list[Token], stdin: list[str]) -> None:
        self.tokens, self.stdin = tokens, stdin
        self.commands: list[Command] = []
        self.words: list[Word] = []
        self.inputs: list[str] = []
        self.piped = False
        self.skipping = ""  # for: words up to the separator; [[: up to ]]; case: up to in; pattern: up to )
        self.cases = 0

    def split(self) -> list[Command]:
        at = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            following = self.tokens[at + 1] if at + 1 < len(self.tokens) else Token("\n")
            at += 1
            if token.operator in ("<", ">", ">>", "<<", "<<-", "<<<", "<&", ">&", ">|", "<>", "&>", "&>>"):
                self._redirect(token.operator, following)
                at += following.word is not None
            elif token.word is None:
                is_function = token.operator == "(" and following.operator == ")" and len(self.words) == 1
                self.words = [] if is_function else self.words
                self._separator(token.operator)
            elif not (token.word.raw.isdigit() and following.operator[:1] in ("<", ">")):
                self._word(token.word)
        self._end(False)
        return self.commands

    def _redirect(self, operator: str, target: Token) -> None:
        if target.word is None:
            return
        if operator in ("<<", "<<-"):
            self.inputs.append(target.body)
        elif operator == "<<<":
            self.inputs.append("".join(text for _, text in target.word.parts))
        inner = [part for part in target.word.parts if part[0] == "sub"]
        if inner and operator == "<":
            self.inputs += [text for _, text in inner]
        if inner:
            self.commands.append(Command([Word((("quoted", ":"), *inner), "")], [], False, ""))

    def _separator(self, operator: str) -> None:
        if self.skipping == "pattern":
            self.skipping = "" if operator == ")" else self.skipping
        elif self.skipping != "[[":
            self._end(operator in ("|", "|&"))
            self.skipping = "pattern" if operator in (";;", ";&", ";;&") and self.cases else ""

    def _word(self, word: Word) -> None:
        raw = word.raw
        if self.skipping:
            self._skipped(word)
        elif self.words or raw not in (*RESERVED, "for", "select", "case", "[[", "function"):
            self.words.append(word)
        elif raw == "case":
            self.skipping, self.cases = "case", self.cases + 1
        elif raw == "esac":
            self.cases -= 1
        elif raw not in RESERVED:
            self.skipping = raw

    def _skipped(self, word: Word) -> None:
        """Look into the substitutions of a word that is no command."""
        if inner := [part for part in word.parts if part[0] == "sub"]:
            self.commands.append(Command([Word((("quoted", ":"), *inner), "")], [], False, ""))
        if (self.skipping, word.raw) == ("case", "in"):
            self.skipping = "pattern"
        elif (self.skipping, word.raw) in (("pattern", "esac"), ("[[", "]]")) or self.skipping == "function":
            self.cases -= self.skipping == "pattern"
            self.skipping = ""

    def _end(self, feeds_next: bool) -> None:
        inputs = self.inputs or ([] if self.piped else self.stdin)
        raw = " ".join(word.raw for word in self.words)
        self.commands.append(Command(self.words, inputs, self.piped, raw))
        self.words, self.inputs, self.piped = [], [], feeds_next


class Guard:
    """Finds the first denied program that a shell command would run; ``found`` has its name."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.depth = 0

    def find(self, text: str, stdin: list[str] | None = None) -> str | None:
        """Return the name of a denied program that ``text`` runs, None without one."""
        if self.depth >= DEEPEST:
            return named(text)
        self.depth += 1
        try:
            before: list[Command] = []
            for command in Splitter(Lexer(text).read(), stdin or []).split():
                before = [*before, command] if command.piped else [command]
                if name := self._command(command, before[:-1]):
                    return name
        except (ValueError, IndexError):
            return _at_start(text)
        except RecursionError:
            return named(text)
        finally:
            self.depth -= 1
        return None

    def _command(self, command: Command, before: list[Command]) -> str | None:
        for word in command.words:
            for kind, text in word.parts:
                if kind == "sub" and (name := self.find(text)):
                    return name
        for body in command.inputs:
            for inner in re.findall(r"\$\(([^()]*)\)", body):
                if name := self.find(inner):
                    return name
        words = list(command.words)
        while words and self._assigns(words[0]):
            words.pop(0)
        inputs = [*command.inputs, *(text for earlier in before for text in self._prints(earlier))]
        return self._runs([arg for word in words for arg in self._args(word)], inputs)

    def _assigns(self, word: Word) -> bool:
        """Remember the value of ``NAME=value``."""
        kind, text = word.parts[0] if word.parts else ("", "")
        found = re.match(r"(\w+)(?:\[\w*\])?\+?=", text) if kind == "bare" else None
        if not found:
            return False
        rest = Word(((kind, text[found.end() :]), *word.parts[1:]), "")
        arrays = [inner for kind, inner in word.parts if kind == "array"]
        self.variables[found[1]] = " ".join(
            [*(arg.text or named(arg.inner) or "" for arg in self._args(rest)), *arrays]
        )
        return True

    def _prints(self, command: Command) -> list[str]:
        """Return what an earlier command of a pipe may write: its words, and what it reads itself."""
        texts = [text for word in command.words for arg in self._args(word) for text in (arg.text,)]
        program = texts[0].rpartition("/")[2] if texts else ""
        if program in ("echo", "printf"):
            plain = [text for text in texts[1:] if text not in ("-e", "-n", "-ne", "-en", "--")]
            first, *others = plain or [""]
            formatted = [first.replace("%s", other, 1) for other in others] if "%s" in first else []
            return [unescaped(" ".join(plain)), *map(unescaped, formatted), *command.inputs]
        if program in ("cat", "tee"):
            return command.inputs
        name = named(command.raw)
        return [f"{name} x", *command.inputs] if name else command.inputs

    def _args(self, word: Word) -> list[Arg]:
        """Return a word as arguments: known variables filled in, braces expanded."""
        text = inner = ""
        splits = False
        for kind, part in word.parts:
            if kind == "sub":
                inner += part + "\n"
            elif kind in ("var", "quoted-var"):
                text += self.variables.get(part, "")
                splits = splits or kind == "var" or "[@]" in word.raw
            elif kind != "array":
                text += part
        if word.parts and all(kind == "bare" for kind, _ in word.parts):
            if found := re.fullmatch(r"([^{}]*)\{([^{}]*,[^{}]*)\}([^{}]*)", text):
                return [Arg(found[1] + middle + found[3]) for middle in found[2].split(",")]
            if re.search(r"[*?\[]", text):
                return [Arg(_globbed(text))]
        if splits:
            return [Arg(piece, inner) for piece in text.split()] or ([Arg("", inner)] if inner else [])
        return [Arg(text, inner)]

    def _runs(self, args: list[Arg], inputs: list[str]) -> str | None:
        """Return the denied program that these words run; ``inputs`` are texts on their standard input."""
        if not args:
            return None
        first, rest = args[0], args[1:]
        if first.inner and (name := named(first.inner)):
            return name
        program = first.text.rpartition("/")[2]
        texts = [arg.text for arg in rest]
        if program in DENIED:
            return None if len(texts) == 1 and texts[0] in _TELLS else program
        if program == "scontrol":
            return program if any(text.startswith("requeue") for text in texts[:3]) else None
        for programs, look in self._looks():
            if program in programs:
                return look(program, rest, inputs)
        return None

    def _looks(self) -> list[tuple[Container[str], Callable[[str, list[Arg], list[str]], str | None]]]:
        return [
            (SHELLS | {"su", "script", "source", ".", "at", "batch", "crontab"}, self._shell),
            (SSH, self._ssh),
            (CODE, self._code),
            (JOINED, self._joined),
            (PREFIXES, self._prefixed),
            (INSIDE, self._inside),
            (("find", "fd", "fdfind"), self._find_files),
            (("alias", "export", "declare", "local", "readonly", "typeset"), self._defines),
        ]

    def _any(self, texts: list[str], stdin: list[str] | None = None) -> str | None:
        return next((name for text in texts if (name := self.find(text, stdin))), None)

    def _shell(self, program: str, rest: list[Arg], inputs: list[str]) -> str | None:
        """Look into the text of ``-c``; without a text and a file, into standard input."""
        operands: list[Arg] = []
        has_text = False
        skip = False
        for arg in rest:
            if skip:
                skip = False
            elif arg.text in ("-o", "-O", "+O", "--rcfile", "--init-file") and program not in ("su", "script"):
                skip = True
            elif re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*|--command", arg.text) and not operands:
                has_text = True
            elif arg.text.startswith("--command="):
                return self.find(arg.text.partition("=")[2])
            elif not arg.text.startswith(("-", "+")) or arg.text == "-":
                operands.append(arg)
        if program in ("su", "script"):
            texts = [rest[at + 1] for at, arg in enumerate(rest[:-1]) if re.fullmatch(r"-[a-z]*c|--command", arg.text)]
            return self._texts(texts)
        if has_text:
            return self._texts(operands[:1], inputs)
        if any(arg.text == "-s" for arg in rest) or not operands or program in ("at", "batch", "crontab"):
            return self._any(inputs)
        if operands[0].text in ("-", "/dev/stdin"):
            return self._any(inputs)
        return named(operands[0].inner)

    def _texts(self, args: list[Arg], stdin: list[str] | None = None) -> str | None:
        return next((name for arg in args if (name := self.find(arg.text, stdin) or named(arg.inner))), None)

    def _ssh(self, _: str, rest: list[Arg], inputs: list[str]) -> str | None:
        words = list(_after_options(rest, Prefix(SSH_VALUES, "", 1)))
        while words and words[0].text == "--":
            words.pop(0)
        if not words:
            return self._any(inputs)
        inner = "".join(arg.inner for arg in words)
        return self.find(" ".join(arg.text for arg in words), inputs) or named(inner)

    def _code(self, program: str, rest: list[Arg], inputs: list[str]) -> str | None:
        """Look for a denied name beside a call that starts programs."""
        is_awk = program.endswith("awk")
        codes = [arg.text for arg in rest] if is_awk or any(re.match(r"-\w*[cerE]$", a.text) for a in rest) else []
        operands = [arg for arg in rest if not arg.text.startswith("-") or arg.text == "-"]
        if not operands or operands[0].text in ("-", "/dev/stdin"):
            codes += inputs
        starts = _AWK_CALL if is_awk else _CODE_CALL
        return next((name for code in codes if starts.search(code) and (name := named(code))), None)

    def _joined(self, program: str, rest: list[Arg], inputs: list[str]) -> str | None:
        words = list(_after_options(rest, Prefix(JOINED[program])))
        if program in ("tmux", "screen", "trap", "sg") and (name := self._texts(rest)):
            return name
        return self.find(" ".join(arg.text for arg in words), inputs) or named("".join(arg.inner for arg in words))

    def _prefixed(self, program: str, rest: list[Arg], inputs: list[str]) -> str | None:
        texts = [arg.text for arg in rest]
        if program == "command" and texts[:1] and texts[0] in ("-v", "-V"):
            return None
        if program == "env" and (found := [t for t in texts if t.startswith(("-S", "--split-string"))]):
            return self.find(
                " ".join([re.sub(r"^(-S|--split-string=?)", "", found[0]), *texts[texts.index(found[0]) + 1 :]])
            )
        if program in ("flock", "runuser") and {"-c", "--command"} & set(texts):
            return self._texts([arg for at, arg in enumerate(rest) if at and texts[at - 1] in ("-c", "--command")])
        words = list(_after_options(rest, PREFIXES[program]))
        if program == "parallel" and words:
            command = [arg.text for arg in words]
            return self.find(" ".join(command[: command.index(":::")] if ":::" in command else command), inputs)
        while words and (program in ("env", "sudo") and re.match(r"\w+=", words[0].text)):
            words.pop(0)
        return self._runs(words, inputs)

    def _inside(self, program: str, rest: list[Arg], inputs: list[str]) -> str | None:
        for at, arg in enumerate(rest):
            if arg.text in INSIDE[program]:
                words = list(_after_options(rest[at + 1 :], INSIDE[program][arg.text]))
                if program == "git":
                    return self._texts([Arg(" ".join(arg.text for arg in words), "")])
                return self._runs(words, inputs)
        return None

    def _find_files(self, _: str, rest: list[Arg], inputs: list[str]) -> str | None:
        starts = ("-exec", "-execdir", "-ok", "-okdir", "-x", "-X", "--exec", "--exec-batch")
        tails = (rest[at + 1 :] for at, arg in enumerate(rest) if arg.text in starts)
        return next((name for tail in tails if (name := self._runs(tail, inputs))), None)

    def _defines(self, program: str, rest: list[Arg], _: list[str]) -> str | None:
        """Remember what ``export NAME=value`` says; an alias is a command."""
        for arg in rest:
            name, equals, value = arg.text.partition("=")
            if equals and program == "alias" and (found := self.find(value)):
                return found
            if equals:
                self.variables[name] = value or named(arg.inner) or ""
        return None


def _after_options(args: list[Arg], prefix: Prefix) -> list[Arg]:
    """Return the words after the options and operands of a program."""
    long = {f"--{name}" for name in prefix.long.split()} | {f"-{name}" for name in prefix.long.split()}
    at, operands = 0, prefix.operands
    while at < len(args):
        text = args[at].text
        if text == "--":
            at += 1
            break
        if text.startswith("-") and len(text) > 1:
            takes_next = text in long or (len(text) == 2 and text[1] in prefix.values)
            takes_next = takes_next or (text[1] != "-" and text not in long and len(text) > 2 and text[-1] in prefix.values
                                        and not any(char in prefix.values for char in text[1:-1]))  # fmt: skip
            at += 1 + takes_next
        elif operands:
            at, operands = at + 1, operands - 1
        else:
            break
    if operands:  # after --
        at += operands
    return [arg for arg in args[at:] if arg.text or arg.inner]


def named(text: str) -> str | None:
    """Return the first denied program that a text names, in any place."""
    found = _NAMED.search(text)
    return found[1] if found else None


def _at_start(text: str) -> str | None:
    """Return a denied program that stands where a command begins, in text that is no valid shell."""
    found = re.search(rf"(?:^|[;&|(`{{\n])\s*(?:sudo\s+|env\s+)*(?:\S*/)?({_NAMES})\b", text)
    return found[1] if found else None


def _globbed(pattern: str) -> str:
    """Return the denied program that a pattern fits, else the pattern."""
    name = pattern.rpartition("/")[2]
    if len(re.sub(r"[*?]|\[[^\]]*\]", "", name)) < 3:
        return pattern
    return next((denied for denied in sorted(DENIED) if fnmatch.fnmatchcase(denied, name)), pattern)


def reason(name: str) -> str:
    """Return the sentence that Claude reads."""
    if name in SUBMIT:
        return (
            f"'{name}' would submit past hpc-agent, and nobody would know of the job. Submit with 'hpc-agent submit' "
            "(again: 'hpc-agent resubmit'), and look with 'hpc-agent status'."
        )
    return (
        f"'{name}' would end or restart jobs, and hpc-agent never does. Ask the person: they may do it in a terminal of "
        "their own. 'hpc-agent status' shows the run, 'hpc-agent mark-run-terminal' takes it off the list."
    )


def main() -> int:
    """Read one call, and answer."""
    try:
        call = json.load(sys.stdin)
        command = call["tool_input"]["command"]
    except (ValueError, LookupError, TypeError):
        return 0
    name = Guard().find(command) if call.get("tool_name") == "Bash" and isinstance(command, str) else None
    if name:
        decision = {"permissionDecision": "deny", "permissionDecisionReason": reason(name)}
        json.dump({"hookSpecificOutput": {"hookEventName": "PreToolUse", **decision}}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
