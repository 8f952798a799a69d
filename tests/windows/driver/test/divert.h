/* How does a program use WinDivert.dll? The part of its API that the tests need. */
#pragma once
#include "../abi.h"
#include <windows.h>

typedef struct {
    HANDLE(*open)(const char *filter, int layer, INT16 priority, UINT64 flags);
    BOOL (*recv)(HANDLE, void *packet, UINT room, UINT *length, Address *address);
    BOOL (*recv_ex)(HANDLE, void *, UINT, UINT *, UINT64, Address *, UINT *address_bytes, OVERLAPPED *);
    BOOL (*send)(HANDLE, const void *packet, UINT length, UINT *sent, const Address *address);
    BOOL (*send_ex)(HANDLE, const void *, UINT, UINT *, UINT64, const Address *, UINT address_bytes, OVERLAPPED *);
    BOOL (*shutdown)(HANDLE, int how);
    BOOL (*close)(HANDLE);
    BOOL (*set_param)(HANDLE, int param, UINT64 value);
    BOOL (*get_param)(HANDLE, int param, UINT64 *value);
    BOOL (*compile)(const char *filter, int layer, char *object, UINT length, const char **error, UINT *at);
    BOOL (*eval)(const char *filter, const void *packet, UINT length, const Address *address);
    BOOL (*calc_checksums)(void *packet, UINT length, Address *address, UINT64 flags);
} WinDivert;

extern WinDivert divert;

/* Loads the official DLL, which stands beside the program; ends it if it cannot. */
void divert_load(void);

/* Ends the program with code 1 and says where. */
#define CHECK(condition, ...)                                                                     \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            failed(__FILE__, __LINE__, #condition, GetLastError());                               \
            say("    " __VA_ARGS__);                                                              \
            end_children();                                                                       \
            ExitProcess(1);                                                                       \
        }                                                                                         \
    } while (0)
/* Programs of `start` that a failure leaves behind. */
void end_children(void);
void keep_child(HANDLE process);
void failed(const char *file, int line, const char *condition, DWORD error);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
