// SPDX-License-Identifier: GPL-2.0
/* Where the tracepoints of include/dynamos/trace.h live; edition modules fire them, so they are exported. */
#define CREATE_TRACE_POINTS
#include <dynamos/trace.h>

EXPORT_TRACEPOINT_SYMBOL_GPL(edition_enter);
EXPORT_TRACEPOINT_SYMBOL_GPL(edition_exit);
EXPORT_TRACEPOINT_SYMBOL_GPL(switched);
