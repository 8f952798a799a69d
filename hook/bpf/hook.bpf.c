/* The companion hook on Linux: how two sessions can listen on the same port.
 *
 * Every program leaves a call alone when in doubt, and none waits for anything.
 */
#include "bind.h"
#include "descent.h"
#include "dual.h"
#include "owner.h"
#include "packet.h"
#include "ping.h"
#include "redirect.h"

/* Helpers that read kernel memory are for GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
