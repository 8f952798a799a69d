/*
 * How does the device \\.\WinDivert answer?
 *
 * WinDivert64.sys as WinDivert.dll installs and opens it: create, cleanup,
 * close and seven control codes. It only knows IRPs; what they ask is done in
 * wdnet.dll. Imports nothing but ntoskrnl.exe and that DLL: with anything else
 * Wine takes it for an ordinary DLL and calls DriverEntry as its DllMain.
 */
#include <ntddk.h>
#include "standin.h"

/* In Wine's ntoskrnl.exe, not in mingw's headers. */
NTKERNELAPI PEPROCESS NTAPI IoGetRequestorProcess(PIRP irp);
NTKERNELAPI HANDLE NTAPI PsGetProcessId(PEPROCESS process);

static void finish(IRP *irp, NTSTATUS status, ULONG_PTR bytes)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = bytes;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

static uint32_t process_of(IRP *irp)
{
    return (uint32_t)(ULONG_PTR)PsGetProcessId(IoGetRequestorProcess(irp));
}

static Handle *handle_of(IRP *irp)
{
    FILE_OBJECT *file = IoGetCurrentIrpStackLocation(irp)->FileObject;
    return file ? file->FsContext : NULL;
}

/* ---- reads that wait ---- */

static Read *read_of(IRP *irp) { return irp->Tail.Overlay.DriverContext[0]; }

static int claim(void *irp) { return IoSetCancelRoutine((IRP *)irp, NULL) != NULL; }

static void complete(Read *read, long status, uint32_t bytes)
{
    IRP *irp = read->irp;
    ExFreePoolWithTag(read, 0);
    finish(irp, status, bytes);
}

static void WINAPI cancel(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    /* Whether it still stood in the queue or was just taken out: claim failed,
     * so this is who ends it. */
    handle_cancel(handle_of(irp), read_of(irp));
    complete(read_of(irp), STATUS_CANCELLED, 0);
}

static NTSTATUS begin_read(Handle *handle, IRP *irp, const Request *request, uint8_t *buffer, ULONG room)
{
    Read *read = ExAllocatePoolWithTag(NonPagedPool, sizeof *read, 0);
    if (!read)
        return STATUS_NO_MEMORY_LEFT;
    read->irp = irp;
    read->buffer = buffer;
    read->room = room;
    irp->Tail.Overlay.DriverContext[0] = read;
    IoMarkIrpPending(irp);
    IoSetCancelRoutine(irp, cancel);
    long status = handle_read(handle, request, read);
    if (status == STATUS_WAITING)
        return STATUS_PENDING;
    if (IoSetCancelRoutine(irp, NULL))
        complete(read, status, 0);
    return STATUS_PENDING;
}

/* ---- requests ---- */

static NTSTATUS WINAPI dispatch_create(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    Handle *handle = NULL;
    NTSTATUS status = handle_open(process_of(irp), &handle);
    IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext = handle;
    finish(irp, status, 0);
    return status;
}

static NTSTATUS WINAPI dispatch_cleanup(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    if (handle_of(irp))
        handle_close(handle_of(irp));
    finish(irp, STATUS_SUCCESS, 0);
    return STATUS_SUCCESS;
}

static NTSTATUS WINAPI dispatch_close(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    if (handle_of(irp))
        handle_free(handle_of(irp));
    IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext = NULL;
    finish(irp, STATUS_SUCCESS, 0);
    return STATUS_SUCCESS;
}

static NTSTATUS WINAPI dispatch_control(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    Handle *handle = handle_of(irp);
    const Request *request = irp->AssociatedIrp.SystemBuffer;
    ULONG length = stack->Parameters.DeviceIoControl.OutputBufferLength;
    uint8_t *buffer = irp->MdlAddress ? MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority) : NULL;
    ULONG_PTR bytes = 0;
    uint32_t sent = 0;
    NTSTATUS status;
    if (!buffer)
        length = 0;
    if (!handle || !request || stack->Parameters.DeviceIoControl.InputBufferLength < sizeof *request) {
        finish(irp, STATUS_BAD_PARAMETER, 0);
        return STATUS_BAD_PARAMETER;
    }
    switch ((uint32_t)stack->Parameters.DeviceIoControl.IoControlCode) {
    case ABI_INITIALIZE:
        status = handle_initialize(handle, request, (Version *)buffer, length);
        bytes = length;
        break;
    case ABI_STARTUP:
        status = handle_startup(handle, request, (const Test *)buffer, length);
        break;
    case ABI_RECV:
        return begin_read(handle, irp, request, buffer, length);
    case ABI_SEND:
        status = handle_send(handle, request, buffer, length, &sent);
        bytes = sent;
        break;
    case ABI_SET_PARAM:
        status = handle_set_param(handle, request);
        break;
    case ABI_GET_PARAM:
        status = handle_get_param(handle, request, (uint64_t *)buffer, length);
        bytes = length;
        break;
    case ABI_SHUTDOWN:
        status = handle_shutdown(handle, request);
        break;
    default:
        status = STATUS_INVALID_DEVICE_REQUEST;
    }
    finish(irp, status, bytes);
    return status;
}

/* ---- loading ---- */

static WCHAR device_name[] = L"\\Device\\WinDivert", link_name[] = L"\\DosDevices\\WinDivert";

static void WINAPI unload(DRIVER_OBJECT *driver)
{
    UNICODE_STRING link;
    standin_stop();
    RtlInitUnicodeString(&link, link_name);
    IoDeleteSymbolicLink(&link);
    IoDeleteDevice(driver->DeviceObject);
}

NTSTATUS WINAPI DriverEntry(DRIVER_OBJECT *driver, UNICODE_STRING *registry)
{
    static const Device helper_calls = {claim, complete};
    UNICODE_STRING name, link;
    DEVICE_OBJECT *device;
    (void)registry;
    if (!standin_start(&helper_calls))
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlInitUnicodeString(&name, device_name);
    RtlInitUnicodeString(&link, link_name);
    driver->MajorFunction[IRP_MJ_CREATE] = dispatch_create;
    driver->MajorFunction[IRP_MJ_CLEANUP] = dispatch_cleanup;
    driver->MajorFunction[IRP_MJ_CLOSE] = dispatch_close;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = dispatch_control;
    driver->DriverUnload = unload;
    NTSTATUS status = IoCreateDevice(driver, 0, &name, FILE_DEVICE_NETWORK, 0, FALSE, &device);
    if (status)
        return status;
    device->Flags |= DO_DIRECT_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return IoCreateSymbolicLink(&link, &name);
}
