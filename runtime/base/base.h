/* base.h - the lowest room: what has no loop and no connection. Other rooms include this one header.
 *
 *   rt.h         status codes, memory, lists, buffers, time as text, durations
 *   arena.h      memory that is given back all at once
 *   text.h       bytes from outside, made safe to print
 *   wire.h       protobuf's wire format, looked at without unpacking
 *   memory.h     what is free for a while goes back to the kernel
 *   metrics.h    counters, gauges and histograms
 *   log.h        one line a message
 *   config.h     settings from the command line, the environment and a file
 *   listen.h     addresses to listen on
 *   password.h   passwords, in files
 *   readiness.h  whether a service can serve, and why not
 *   file.h       a small file read at once, and who else may read it
 *   failpoint.h  where a build for tests fails on purpose */
#ifndef RT_BASE_H
#define RT_BASE_H

#include "arena.h"
#include "config.h"
#include "failpoint.h"
#include "file.h"
#include "listen.h"
#include "log.h"
#include "memory.h"
#include "metrics.h"
#include "password.h"
#include "readiness.h"
#include "rt.h"
#include "text.h"
#include "wire.h"

#endif
