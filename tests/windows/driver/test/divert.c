/* How does a program use WinDivert.dll? */
#include "divert.h"
#include <stdarg.h>
#include <stdio.h>

WinDivert divert;

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

void failed(const char *file, int line, const char *condition, DWORD error)
{
    say("FAILED %s:%d: %s (last error %lu)", file, line, condition, (unsigned long)error);
}

static HANDLE children[64];
static int child_count;

void keep_child(HANDLE process)
{
    if (child_count < 64 &&
        DuplicateHandle(GetCurrentProcess(), process, GetCurrentProcess(), &children[child_count], 0, FALSE, DUPLICATE_SAME_ACCESS))
        child_count++;
}

void end_children(void)
{
    while (child_count > 0)
        TerminateProcess(children[--child_count], 1);
}

static void *find(HMODULE dll, const char *name)
{
    void *found = (void *)(uintptr_t)GetProcAddress(dll, name);
    CHECK(found, "%s is not in WinDivert.dll", name);
    return found;
}

void divert_load(void)
{
    HMODULE dll = LoadLibraryA("WinDivert.dll");
    CHECK(dll, "WinDivert.dll does not load");
    divert.open = find(dll, "WinDivertOpen");
    divert.recv = find(dll, "WinDivertRecv");
    divert.recv_ex = find(dll, "WinDivertRecvEx");
    divert.send = find(dll, "WinDivertSend");
    divert.send_ex = find(dll, "WinDivertSendEx");
    divert.shutdown = find(dll, "WinDivertShutdown");
    divert.close = find(dll, "WinDivertClose");
    divert.set_param = find(dll, "WinDivertSetParam");
    divert.get_param = find(dll, "WinDivertGetParam");
    divert.compile = find(dll, "WinDivertHelperCompileFilter");
    divert.eval = find(dll, "WinDivertHelperEvalFilter");
    divert.calc_checksums = find(dll, "WinDivertHelperCalcChecksums");
}
