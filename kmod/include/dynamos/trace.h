/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module's tracepoints. Their order of arguments is an interface (docs/abi.md): eBPF programs read them by
 * position. They are off by default and then cost one patched-out branch.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dynamos

#if !defined(_DYNAMOS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _DYNAMOS_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(edition_enter,
	TP_PROTO(u32 function, u32 edition, u64 arg0, u64 arg1, u64 arg2, u64 arg3),
	TP_ARGS(function, edition, arg0, arg1, arg2, arg3),
	TP_STRUCT__entry(
		__field(u32, function)
		__field(u32, edition)
		__field(u64, arg0)
		__field(u64, arg1)
		__field(u64, arg2)
		__field(u64, arg3)
	),
	TP_fast_assign(
		__entry->function = function;
		__entry->edition = edition;
		__entry->arg0 = arg0;
		__entry->arg1 = arg1;
		__entry->arg2 = arg2;
		__entry->arg3 = arg3;
	),
	TP_printk("function=%u edition=%u arg0=%#llx arg1=%#llx arg2=%#llx arg3=%#llx",
		  __entry->function, __entry->edition, __entry->arg0,
		  __entry->arg1, __entry->arg2, __entry->arg3)
);

TRACE_EVENT(edition_exit,
	TP_PROTO(u32 function, u32 edition, u64 ret),
	TP_ARGS(function, edition, ret),
	TP_STRUCT__entry(
		__field(u32, function)
		__field(u32, edition)
		__field(u64, ret)
	),
	TP_fast_assign(
		__entry->function = function;
		__entry->edition = edition;
		__entry->ret = ret;
	),
	TP_printk("function=%u edition=%u ret=%#llx",
		  __entry->function, __entry->edition, __entry->ret)
);

TRACE_EVENT(switched,
	TP_PROTO(const char *subsystem, u32 from, u32 to),
	TP_ARGS(subsystem, from, to),
	TP_STRUCT__entry(
		__array(char, subsystem, 64)
		__field(u32, from)
		__field(u32, to)
	),
	TP_fast_assign(
		strscpy(__entry->subsystem, subsystem, sizeof(__entry->subsystem));
		__entry->from = from;
		__entry->to = to;
	),
	TP_printk("subsystem=%s from=%u to=%u",
		  __entry->subsystem, __entry->from, __entry->to)
);

TRACE_EVENT(event_line,
	TP_PROTO(u64 seq, const char *name, const char *values),
	TP_ARGS(seq, name, values),
	TP_STRUCT__entry(
		__field(u64, seq)
		__array(char, name, 32)
		__array(char, values, 320)
	),
	TP_fast_assign(
		__entry->seq = seq;
		strscpy(__entry->name, name, sizeof(__entry->name));
		strscpy(__entry->values, values, sizeof(__entry->values));
	),
	TP_printk("seq=%llu event=%s %s", __entry->seq, __entry->name, __entry->values)
);

#endif /* _DYNAMOS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH dynamos
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
