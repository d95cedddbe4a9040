"""Which system calls of a run a unit would refuse: syscalls.py UNIT PROGRAM TRACE

UNIT has SystemCallFilter= lines, TRACE is what strace -f wrote of a run; what comes before the execution of PROGRAM is
left out. Prints the names of calls that the filter does not let through.
"""

import re
import subprocess
import sys

unit, program, trace = sys.argv[1:]
groups, name = {}, None
listing = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True)
for line in listing.stdout.splitlines():
    if line.startswith("@"):
        name = line.strip()
        groups[name] = set()
    elif line.startswith("    ") and not line.strip().startswith("#"):
        groups[name].add(line.strip())


def members(word):
    if not word.startswith("@"):
        return {word}
    return set().union(*(members(member) for member in groups[word]))


allowed = set()
with open(unit, encoding="utf-8") as file:
    for line in file:
        if line.startswith("SystemCallFilter="):
            value = line.partition("=")[2].strip()
            named = set().union(*(members(word) for word in value.lstrip("~").split()))
            allowed = allowed - named if value.startswith("~") else allowed | named
# Every filter lets these through (systemd.exec(5)).
allowed |= members("@default")

used, begun = set(), False
with open(trace, encoding="utf-8", errors="replace") as file:
    for line in file:
        begun = begun or f'execve("{program}"' in line
        call = re.match(r"(?:\d+ +)?(?:<\.\.\. )?(\w+)(?:\(| resumed)", line)
        if begun and call:
            used.add(call[1])
if len(used) < 20:
    sys.exit(f"{trace} tells of {len(used)} system calls only")
print("\n".join(sorted(used - allowed)), end="\n" if used - allowed else "")
