/* Does a compiled filter match? */
#pragma once
#include "abi.h"
#include "packet.h"

/* Whether the real driver would accept this object for the layer, and this one
 * can evaluate all of it. */
int filter_valid(const Test *tests, uint32_t count, uint32_t layer);

/* Whether the filter matches. `packet` is null for socket events. */
int filter_match(const Test *tests, uint32_t count, const Address *address, const Packet *packet);
