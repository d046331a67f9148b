/* batch_internal.h - what batches (batch.c) and the gates at which they wait (gate.c) ask of each other. */
#ifndef RUNTIME_LOOP_BATCH_INTERNAL_H
#define RUNTIME_LOOP_BATCH_INTERNAL_H

#include "loop.h"

/* What a gate has of a batch. */
struct batch_waiter {
	struct rt_list link; /* in the gate's list: it waits there */
	/* Sends what may be sent now. True: more waits. Afterwards it may be at another gate. */
	bool (*pass)(struct batch_waiter *waiter, struct rt_batch_gate *gate);
	/* Its gate was freed. */
	void (*free_of)(struct batch_waiter *waiter);
};

/* At the end of the turn `waiter` is asked to pass. */
void batch_gate_wait(struct rt_batch_gate *gate, struct batch_waiter *waiter);
/* Whether small runs may go: only while waiters are asked to pass. */
bool batch_gate_open(const struct rt_batch_gate *gate);
/* A run is under way, until rt_batch_leave. */
void batch_gate_enter(struct rt_batch_gate *gate, struct rt_batch_run *run);

#endif
