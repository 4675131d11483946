"""SoftHSM behind a module that answers each login as a token does that has locked its PIN.

SoftHSM never locks. The module hands on everything to it but C_Login (PKCS#11 3.0, 5.6.8), which
returns CKR_PIN_LOCKED and notes that it was called.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* CK_FUNCTION_LIST: a version, then 68 functions in the standard's order (pkcs11f.h). */
struct list { unsigned char major, minor; void *function[68]; };
enum { GET_FUNCTION_LIST = 3, LOGIN = 18 };
static struct list mine;

static unsigned long login(unsigned long session, unsigned long user, void *pin, unsigned long size)
{
    FILE *log = fopen(LOGINS, "a");
    if (log) { fputs("login\n", log); fclose(log); }
    return 0xA4; /* CKR_PIN_LOCKED */
}

unsigned long C_GetFunctionList(struct list **given)
{
    unsigned long (*get)(struct list **), answer;
    struct list *theirs;
    void *module = dlopen(MODULE, RTLD_NOW);
    if (!module) return 5; /* CKR_GENERAL_ERROR */
    get = (unsigned long (*)(struct list **)) dlsym(module, "C_GetFunctionList");
    answer = get(&theirs);
    if (answer) return answer;
    memcpy(&mine, theirs, sizeof mine);
    mine.function[GET_FUNCTION_LIST] = (void *) C_GetFunctionList;
    mine.function[LOGIN] = (void *) login;
    *given = &mine;
    return 0;
}
"""


def locked_module(folder: Path, module: str) -> tuple[str, Path]:
    """Build the module.

    Args:
        folder: Where it goes.
        module: SoftHSM's.

    Returns:
        Its path, and the file that has a line for each login.
    """
    source, built, logins = folder / "locked.c", folder / "locked.so", folder / "logins"
    source.write_text(_SOURCE)
    subprocess.run(
        [
            *("gcc", "-shared", "-fPIC", "-w", f'-DMODULE="{module}"', f'-DLOGINS="{logins}"'),
            *("-o", str(built), str(source), "-ldl"),
        ],
        check=True,
        capture_output=True,
    )
    logins.touch()
    return str(built), logins
