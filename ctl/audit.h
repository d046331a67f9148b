/* audit.h - what the files of `tandemctl audit` share.
 *
 * A case is one order at one instant: its record, its reservation, its timer, all of one partition. Where a
 * reservation is split, its parts in the partitions of its SKUs are read apart. audit_read.c reads cases,
 * audit_parts.c parts, audit_rules.c judges them (pure), audit_stock.c adds up the SKUs, audit_split.c repairs what
 * is split, audit_archive.c compares orders with the archive, audit.c runs all of it, prints and repairs. */
#ifndef AUDIT_H
#define AUDIT_H

#include "ctl.h"
#include "inventory/stock.h"
#include "order/order_step.h"

/* ---- cases ---- */

/* A part of a reservation: what is held in the partition of some of its SKUs. */
struct audit_part {
	int partition;
	bool named; /* by the reservation */
	bool damaged;
	bool differs; /* its lines, or the partition of its order, are not what the reservation says */
	enum stock_state state; /* STOCK_NONE: there is none */
};

struct audit_case {
	const char *order_id;
	int partition;
	/* The order. Damaged: its key exists, but no order can be read from it. */
	bool ordered, order_damaged;
	enum order_state state;
	uint64_t version;
	bool history_gap; /* the history does not have one event for each version, up to its state */
	/* The reservation; STOCK_NONE: there is none. */
	enum stock_state stock;
	bool reservation_damaged;
	bool lines_differ;              /* from those of the order */
	bool split;                     /* its SKUs lie in other partitions, too */
	const struct audit_part *parts; /* that there are or that the reservation names */
	size_t part_count;
	bool timed;
	int64_t hold_until_ms; /* RESERVED: when its timer should be due; else 0 */
	/* Of everything that was read: while it stays the same, nothing has changed. */
	uint64_t fingerprint;
	/* For a repair that reserves: "sku=quantity sku=quantity". Valid until the next reading. */
	const char *lines;
};

/* ---- faults ---- */

enum audit_repair {
	AUDIT_BY_HAND,
	AUDIT_SET_TIMER,
	AUDIT_DROP_TIMER,
	AUDIT_RESERVE, /* ask inventory, by its own function, as the order's event would */
	AUDIT_COMMIT,
	AUDIT_RELEASE,
	AUDIT_PARTS,    /* make them what the reservation says */
	AUDIT_COUNTERS, /* only with --repair-counters */
};
/* Name, text, fix, repair. */
enum audit_fault {
	AUDIT_ORDER_DAMAGED,
	AUDIT_NO_ORDER_ID,
	AUDIT_VERSION_GAP,
	AUDIT_NO_TIMER,
	AUDIT_TIMER_OF_SETTLED,
	AUDIT_TIMER_WITHOUT_ORDER,
	AUDIT_RESERVATION_DAMAGED,
	AUDIT_RESERVATION_WITHOUT_ORDER,
	AUDIT_SOLD_WITHOUT_ORDER,
	AUDIT_ORDER_WITHOUT_RESERVATION,
	AUDIT_SOLD_UNCONFIRMED,
	AUDIT_CONFIRM_WITHOUT_RESERVATION,
	AUDIT_CONFIRMED_NOT_SOLD,
	AUDIT_CONFIRMED_WITHOUT_STOCK,
	AUDIT_HOLD_OF_ENDED,
	AUDIT_SOLD_OF_ENDED,
	AUDIT_ENDED_WITHOUT_RECORD,
	AUDIT_LINES_DIFFER,
	AUDIT_NOT_ARCHIVED,
	AUDIT_ARCHIVED_DIFFERS,
	AUDIT_ARCHIVED_NOT_STORED,
	AUDIT_PART_DAMAGED,
	AUDIT_PART_WITHOUT_RECORD,
	AUDIT_PART_SOLD_WITHOUT_RECORD,
	AUDIT_PART_MISSING,
	AUDIT_PART_SOLD_UNCONFIRMED,
	AUDIT_PART_NOT_SOLD,
	AUDIT_PART_HELD,
	AUDIT_PART_SOLD,
	AUDIT_PART_DIFFERS,
	AUDIT_STOCK_DAMAGED,
	AUDIT_STOCK_MISSING,
	AUDIT_STOCK_SUM,
	AUDIT_RESERVED_SUM,
	AUDIT_COMMITTED_SUM,
	AUDIT_FAULT_COUNT,
};
struct audit_fault_info {
	const char *name, *text, *fix;
	enum audit_repair repair;
};
const struct audit_fault_info *audit_fault_info(enum audit_fault fault);

/* What is wrong with a case if no change is under way. Returns how many faults. */
#define AUDIT_FAULTS_MAX 8
size_t audit_judge(const struct audit_case *one, enum audit_fault faults[AUDIT_FAULTS_MAX]);

/* An order in Redis and in the archive. */
struct audit_archived {
	bool stored, settled;
	bool read; /* the archive has come to its last event, and did not miss it */
	uint64_t version;
	int status; /* as tandem.order.v1.OrderStatus */
	bool archived, dropped;
	uint64_t archived_version;
	int archived_status;
	bool lost; /* Redis has lost events of its partition that the archive has, and the archive says so */
};
/* What is wrong with it if nothing is under way; AUDIT_FAULT_COUNT: nothing. */
enum audit_fault audit_judge_archived(const struct audit_archived *one);

/* ---- reading (audit_scan.c, audit_parts.c, audit_read.c) ---- */

/* A set of order ids. Zeroed memory is an empty one. */
struct audit_ids {
	struct audit_id *first;
	size_t count;
};
/* False: it was in the set already. */
bool audit_ids_add(struct audit_ids *ids, const char *id);
bool audit_ids_have(const struct audit_ids *ids, const char *id);
void audit_ids_done(struct audit_ids *ids);

/* Adds data to a fingerprint, and that it ends here. */
uint64_t audit_fingerprint(uint64_t print, const char *data, size_t length);

/* Scans the elements of a key (kind "HSCAN" or "ZSCAN"); `on_pair` gets each, with its value. False:
 * Redis could not be asked, or on_pair returned false. */
bool audit_scan(struct ctl *ctl, const char *kind, const char *key,
		bool (*on_pair)(const redisReply *name, const redisReply *value, void *user),
		void *user);

/* The parts of all reservations (audit_parts.c). Zeroed memory is empty. */
struct audit_parts {
	struct audit_parts_of *first;
	size_t count;
};
/* Reads all partitions' parts. False: Redis could not be asked. */
bool audit_parts_read(struct ctl *ctl, struct audit_parts *parts);
/* Gives the partition of each order that has parts, as the parts say it, and its id, to `on_order`. False:
 * on_order returned false. */
bool audit_parts_each(const struct audit_parts *parts,
		      bool (*on_order)(int partition, const char *id, void *user), void *user);
/* Sets one->parts, freed by the caller, and adds what was read to the fingerprint. `lines`: of its reservation.
 * `again`: reads the parts anew. False: Redis could not be asked. */
bool audit_parts_of(struct ctl *ctl, const struct audit_parts *parts, bool again, const char *lines,
		    struct audit_case *one);
void audit_parts_done(struct audit_parts *parts);
/* Parses a part, a terminated text. *ret_lines points into it. */
bool audit_part(const char *text, enum stock_state *ret_state, int *ret_partition,
		const char **ret_lines);
/* Writes the lines that a reservation has in partition q, without the "@q", and a NUL. */
void audit_lines_in(const char *lines, int q, struct rt_buf *text);
/* Compares a reservation's lines with those of its order, which say no partitions: "sku=quantity sku=quantity".
 * *ret_split: they lie in other partitions than this, too. */
bool audit_lines_fit(const char *ordered, const char *reserved, int partition, int partition_count,
		     bool *ret_split);

/* Reads cases, a hundred at one instant, and gives each to `on_case`. */
struct audit_reader {
	struct ctl *ctl;
	const struct audit_parts *parts;
	bool again;    /* read parts anew */
	int partition; /* of the ids */
	void (*on_case)(const struct audit_case *one, void *user);
	void *user;
	char **ids; /* to be read */
	bool plain; /* this user may not run scripts: the parts of a case are read one by one */
	size_t count, capacity;
};
bool audit_reader_add(struct audit_reader *reader, int partition, const char *id);
bool audit_reader_flush(struct audit_reader *reader);
void audit_reader_done(struct audit_reader *reader);

/* Adds the subjects of all events that a group has not acknowledged, or has set aside. *ret_complete: all
 * were read; else there were too many. */
bool audit_unread(struct ctl *ctl, struct audit_ids *ids, bool *ret_complete);

/* Parses a record of inventory's hash, a terminated text. *ret_lines points into it. */
bool audit_reservation(const char *text, enum stock_state *ret_state, const char **ret_lines);

/* ---- repairing reservations that are split (audit_split.c) ---- */

/* Serves a request of an order, the subject of the deed, as inventory does on its event. `lines`: of the order, in case
 * there is no record; they need not say their partitions. False: it could not be served; the reason is on stderr. */
bool audit_split_serve(struct ctl *ctl, const struct ctl_deed *deed, int partition,
		       enum stock_request request, const char *lines);
/* Makes the parts of an order what its record says. `ended`: there is no such order, or it has ended without a sale, so
 * that what is held without a record may be released; `reserved`: it is RESERVED, so that it may be cancelled if its stock
 * cannot be held again. False: something is left, because it is not certain or cannot be had. */
bool audit_split_align(struct ctl *ctl, const struct ctl_deed *deed, int partition,
		       const char *ordered, bool ended, bool reserved);

/* ---- stock (audit_stock.c) ---- */

struct audit_stock {
	int partition;    /* that is being checked */
	size_t skus, hot; /* checked; hot: changed during each look */
	size_t unchecked; /* hot, and this user may not run scripts */
	/* Gets each fault with the numbers that show it. */
	void (*on_fault)(enum audit_fault fault, const char *sku, const char *detail, void *user);
	void *user;
};
bool audit_stock(struct ctl *ctl, struct audit_stock *audit);
/* ---- the archive (audit_archive.c) ---- */

/* Events between two entries of a stream; or an entry that could not be read, which is both. */
struct audit_missing {
	const char *stream, *after_id, *before_id, *reason;
	uint64_t events; /* 0: it is not known how many */
};
struct audit_archive {
	/* Gets each fault with what shows it. */
	void (*on_fault)(enum audit_fault fault, int partition, const char *order_id,
			 const char *detail, void *user);
	/* Gets what the archive knows to be missing. */
	void (*on_missing)(const struct audit_missing *missing, void *user);
	void *user;
	bool is_there, compared; /* compared: it could be asked */
	size_t archived, dropped, under_way;
	size_t left_out; /* looked wrong, and were too many to read again */
};
/* `wait` lets the window pass. False: Redis or the archive could not be asked; the reason is on stderr. */
bool audit_archive(struct ctl *ctl, struct audit_archive *audit, void (*wait)(int64_t ms),
		   int64_t window_ms);

/* ---- repairs of stock (audit_stock.c) ---- */

/* Sets the counters of a SKU, the subject of the deed, to the sums of its reservations; `received` is taken as right.
 * False: the reason is on stderr. */
bool audit_stock_repair(struct ctl *ctl, const struct ctl_deed *deed, int partition);

#endif
