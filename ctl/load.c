/* load.c - tandemctl load: options, the phases one after another, the report. See load.h. */
#include "load.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/base.h"
#include "commands.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

enum {
	OPT_RATE = 1000,
	OPT_SATURATE,
	OPT_POISSON,
	OPT_DURATION,
	OPT_WARMUP,
	OPT_DRAIN,
	OPT_CONNECTIONS,
	OPT_MODE,
	OPT_BATCH,
	OPT_SKUS,
	OPT_SKEW,
	OPT_LINES,
	OPT_CUSTOMERS,
	OPT_CONFIRM,
	OPT_CANCEL,
	OPT_WAIT,
	OPT_REQUEST_IDS,
	OPT_STOCK,
	OPT_NO_ACCOUNTING,
	OPT_OUT,
	OPT_SEED,
	OPT_QUIET,
	OPT_YES,
	OPT_CLEAN,
};

static const struct argp_option load_options_known[] = {
	{ "rate", OPT_RATE, "N", 0, "Orders a second, by a fixed schedule", 0 },
	{ "poisson", OPT_POISSON, NULL, 0, "Random gaps between orders instead of equal ones", 0 },
	{ "saturate", OPT_SATURATE, "N", OPTION_ARG_OPTIONAL,
	  "As fast as possible: always N orders placed and not decided (512)", 0 },
	{ "duration", OPT_DURATION, "TIME", 0, "Measured time (10s)", 0 },
	{ "warmup", OPT_WARMUP, "TIME", 0, "Before it, not counted (2s)", 0 },
	{ "drain", OPT_DRAIN, "TIME", 0, "How long to wait for the last decisions (30s)", 0 },
	{ "connections", OPT_CONNECTIONS, "N", 0, "Connections to the gateway (4)", 0 },
	{ "mode", OPT_MODE, "MODE", 0, "unary, batch or stream (unary)", 0 },
	{ "batch", OPT_BATCH, "N", 0, "Orders in a batch, with --mode batch (100)", 0 },
	{ "skus", OPT_SKUS, "N", 0, "Number of SKUs (1000)", 0 },
	{ "skew", OPT_SKEW, "SKEW", 0, "uniform, zipf or hot: one SKU for all (uniform)", 0 },
	{ "lines", OPT_LINES, "N", 0, "Lines of an order, 1 to 16 (1)", 0 },
	{ "customers", OPT_CUSTOMERS, "N", 0, "Number of customers (10000)", 0 },
	{ "confirm", OPT_CONFIRM, "PERCENT", 0, "Confirm this share of the reserved orders (0)",
	  0 },
	{ "cancel", OPT_CANCEL, "PERCENT", 0, "Cancel this share of the reserved orders (0)", 0 },
	{ "wait", OPT_WAIT, NULL, 0,
	  "Get decisions by wait_for_decision instead of from the order stream", 0 },
	{ "request-ids", OPT_REQUEST_IDS, NULL, 0, "Give every order a request_id", 0 },
	{ "stock", OPT_STOCK, "N", 0, "Fill each SKU up to N first (1000000)", 0 },
	{ "no-accounting", OPT_NO_ACCOUNTING, NULL, 0,
	  "Do not ask, fill SKUs or compare stock: for systems without InventoryService", 0 },
	{ "out", OPT_OUT, "FOLDER", 0, "Write latency.tsv and series.tsv there", 0 },
	{ "seed", OPT_SEED, "N", 0, "Seed of all random choices (1)", 0 },
	{ "quiet", OPT_QUIET, NULL, 0, "Print no progress", 0 },
	{ "yes", OPT_YES, NULL, 0, "Do not ask when there is stock of other SKUs", 0 },
	{ "clean", OPT_CLEAN, NULL, 0,
	  "Place nothing: cancel the orders of earlier loads and take their stock out", 0 },
	{ 0 },
};

static void want_int(struct argp_state *state, const char *name, const char *text, int64_t min,
		     int64_t max, int64_t *ret)
{
	if (!rt_parse_int(text, min, max, ret))
		argp_error(state, "--%s: %s is not within %lld … %lld", name, text, (long long)min,
			   (long long)max);
}

static void want_time(struct argp_state *state, const char *name, const char *text, int64_t *ret_ms)
{
	if (!rt_parse_duration(text, ret_ms))
		argp_error(state, "--%s: %s is not a duration such as 10s", name, text);
}

static double want_number(struct argp_state *state, const char *name, const char *text, double max)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0 && value <= max))
		argp_error(state, "--%s: %s is not within 0 … %.0f", name, text, max);
	return value;
}

static int want_word(struct argp_state *state, const char *name, const char *text,
		     const char *const values[3])
{
	for (int i = 0; i < 3; i++)
		if (strcmp(text, values[i]) == 0)
			return i;
	argp_error(state, "--%s: %s is not one of %s, %s, %s", name, text, values[0], values[1],
		   values[2]);
	return 0;
}

const char *const load_modes[3] = { "unary", "batch", "stream" };
const char *const load_skews[3] = { "uniform", "zipf", "hot" };

/* The type and bounds of an option's argument, and where its value goes. */
#define AT(member) offsetof(struct load_options, member)
static const struct {
	int key;
	const char *name; /* as in the table above */
	enum { FLAG, INT, TIME, PERCENT } kind;
	size_t offset;
	int64_t min, max; /* of INT */
} options_simple[] = {
	{ OPT_POISSON, "poisson", FLAG, AT(poisson), 0, 0 },
	{ OPT_WAIT, "wait", FLAG, AT(wait), 0, 0 },
	{ OPT_REQUEST_IDS, "request-ids", FLAG, AT(request_ids), 0, 0 },
	{ OPT_QUIET, "quiet", FLAG, AT(quiet), 0, 0 },
	{ OPT_YES, "yes", FLAG, AT(yes), 0, 0 },
	{ OPT_CLEAN, "clean", FLAG, AT(clean), 0, 0 },
	{ OPT_DURATION, "duration", TIME, AT(duration_ms), 0, 0 },
	{ OPT_WARMUP, "warmup", TIME, AT(warmup_ms), 0, 0 },
	{ OPT_DRAIN, "drain", TIME, AT(drain_ms), 0, 0 },
	{ OPT_CONNECTIONS, "connections", INT, AT(connections), 1, 256 },
	{ OPT_BATCH, "batch", INT, AT(batch), 1, 1000 },
	{ OPT_SKUS, "skus", INT, AT(skus), 1, LOAD_SKUS_MAX },
	{ OPT_LINES, "lines", INT, AT(lines), 1, 16 },
	{ OPT_CUSTOMERS, "customers", INT, AT(customers), 1, 10000000 },
	{ OPT_STOCK, "stock", INT, AT(stock), 1, 1000000000 },
	{ OPT_SEED, "seed", INT, AT(seed), 0, INT64_MAX },
	{ OPT_CONFIRM, "confirm", PERCENT, AT(confirm), 0, 0 },
	{ OPT_CANCEL, "cancel", PERCENT, AT(cancel), 0, 0 },
};

static error_t parse_simple(int key, char *arg, struct argp_state *state, struct load_options *o)
{
	for (size_t i = 0; i < RT_LENGTH(options_simple); i++) {
		const char *name = options_simple[i].name;
		void *at = (char *)o + options_simple[i].offset;

		if (options_simple[i].key != key)
			continue;
		switch (options_simple[i].kind) {
		case FLAG:
			*(bool *)at = true;
			break;
		case INT:
			want_int(state, name, arg, options_simple[i].min, options_simple[i].max,
				 at);
			break;
		case TIME:
			want_time(state, name, arg, at);
			break;
		case PERCENT:
			*(double *)at = want_number(state, name, arg, 100) / 100;
			break;
		}
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct load_options standard = {
	.outstanding = 512,
	.duration_ms = 10000,
	.warmup_ms = 2000,
	.drain_ms = 30000,
	.connections = 4,
	.batch = 100,
	.skus = 1000,
	.lines = 1,
	.customers = 10000,
	.seed = 1,
	.stock = 1000000,
	.accounting = true,
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct load_options *o = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		*o = standard;
		return 0;
	case OPT_RATE:
		o->rate = want_number(state, "rate", arg, 1e6);
		if (o->rate <= 0)
			argp_error(state, "--rate: %s is not above 0", arg);
		return 0;
	case OPT_SATURATE:
		o->saturate = true;
		if (arg != NULL)
			want_int(state, "saturate", arg, 1, 65536, &o->outstanding);
		return 0;
	case OPT_MODE:
		o->mode = (enum load_mode)want_word(state, "mode", arg, load_modes);
		return 0;
	case OPT_SKEW:
		o->skew = (enum load_skew)want_word(state, "skew", arg, load_skews);
		return 0;
	case OPT_NO_ACCOUNTING:
		o->accounting = false;
		return 0;
	case OPT_OUT:
		o->out = arg;
		return 0;
	case ARGP_KEY_END:
		if (o->saturate && o->rate > 0)
			argp_error(state, "--rate, or --saturate: not both");
		return 0;
	default:
		return parse_simple(key, arg, state, o);
	}
}

/* ---- the phases ---- */

static void stop_loop(struct load *load)
{
	rt_loop_stop(load->loop);
}

static void check_accounting(struct load *load)
{
	if (load->options.accounting)
		load_accounting_close(load, stop_loop);
	else
		stop_loop(load);
}

static void start_run(struct load *load)
{
	load_run_start(load, check_accounting);
}

static void listen_for_decisions(struct load *load)
{
	if (load->options.wait)
		start_run(load);
	else
		load_tail_start(load, start_run);
}

static void start_phases(struct rt_timer *timer)
{
	struct load *load = RT_CONTAINER_OF(timer, struct load, timer);

	listen_for_decisions(load);
}

/* ---- the report ---- */

static json_t *latency_json(const struct hist *hist)
{
	return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)hist->count,
			 "mean", hist_mean_ms(hist), "p50", hist_ms(hist, 0.5), "p90",
			 hist_ms(hist, 0.9), "p99", hist_ms(hist, 0.99), "p999",
			 hist_ms(hist, 0.999), "max", (double)hist->max_ns / 1e6);
}

static double cpu_seconds(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double decided_per_second(const struct load *load)
{
	double seconds = (double)load->options.duration_ms / 1000;

	return (double)(load->measured.reserved + load->measured.rejected) / seconds;
}

static bool balanced(const struct load *load)
{
	return load->error == NULL && load->undecided == 0 && load->count.twice == 0 &&
	       load->count.accepted == load->count.reserved + load->count.rejected;
}

static void report_json(const struct load *load)
{
	json_t *root, *codes = json_object(), *series = json_array();

	for (int i = 0; i < 17; i++)
		if (load->count.codes[i] > 0)
			(void)json_object_set_new(codes, rt_code_name(i),
						  json_integer((json_int_t)load->count.codes[i]));
	for (size_t i = 0; i < load->second_count; i++) {
		const struct load_second *second = &load->seconds[i];

		if (second->sent > 0 || second->decided > 0)
			(void)json_array_append_new(
				series, json_pack("{s:I, s:I, s:I, s:I, s:f}", "second",
						  (json_int_t)i, "sent", (json_int_t)second->sent,
						  "accepted", (json_int_t)second->accepted,
						  "decided", (json_int_t)second->decided, "p99",
						  hist_ms(second->decided_hist, 0.99)));
	}
	root = json_pack(
		"{s:b, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, "
		"s:o, s:o, s:o, s:o}",
		"balanced", balanced(load), "error", load->error, "sent",
		(json_int_t)load->count.sent, "accepted", (json_int_t)load->count.accepted,
		"failed", (json_int_t)load->count.failed, "reserved",
		(json_int_t)load->count.reserved, "rejected", (json_int_t)load->count.rejected,
		"confirmed", (json_int_t)load->count.confirmed, "cancelled",
		(json_int_t)load->count.cancelled, "undecided", (json_int_t)load->undecided,
		"decided_twice", (json_int_t)load->count.twice, "late",
		(json_int_t)load->count.late, "decided_per_second", decided_per_second(load),
		"loader_cpu_seconds", cpu_seconds(), "accepted_ms",
		latency_json(&load->accepted_hist), "decided_ms", latency_json(&load->decided_hist),
		"failed_ms", latency_json(&load->failed_hist), "errors", codes, "series", series);
	ctl_json_print(root);
}

static void report_row(const char *name, const struct hist *hist)
{
	(void)printf("%-18s %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f\n", name, hist_mean_ms(hist),
		     hist_ms(hist, 0.5), hist_ms(hist, 0.9), hist_ms(hist, 0.99),
		     hist_ms(hist, 0.999), (double)hist->max_ns / 1e6);
}

static void report_table(const struct load *load)
{
	const struct load_count *count = &load->count;

	(void)printf("orders             sent %llu, accepted %llu, refused or failed %llu\n",
		     (unsigned long long)count->sent, (unsigned long long)count->accepted,
		     (unsigned long long)count->failed);
	(void)printf("decisions          reserved %llu, rejected %llu, none %llu\n",
		     (unsigned long long)count->reserved, (unsigned long long)count->rejected,
		     (unsigned long long)load->undecided);
	if (count->confirmed + count->cancelled + count->follow_up_failed > 0)
		(void)printf("then               confirmed %llu, cancelled %llu, failed %llu\n",
			     (unsigned long long)count->confirmed,
			     (unsigned long long)count->cancelled,
			     (unsigned long long)count->follow_up_failed);
	for (int i = 0; i < 17; i++)
		if (count->codes[i] > 0)
			(void)printf("errors             %s %llu\n", rt_code_name(i),
				     (unsigned long long)count->codes[i]);
	(void)printf("decided            %.0f/s over %.1f s\n", decided_per_second(load),
		     (double)load->options.duration_ms / 1000);
	(void)printf("left late (>1 ms)  %llu\n", (unsigned long long)count->late);
	(void)printf("loader CPU         %.2f s\n\n", cpu_seconds());
	(void)printf("%-18s %9s %9s %9s %9s %9s %9s\n", "latency, ms", "mean", "p50", "p90", "p99",
		     "p99.9", "max");
	report_row("to accepted", &load->accepted_hist);
	report_row("to decided", &load->decided_hist);
	if (load->failed_hist.count > 0)
		report_row("to failed", &load->failed_hist);
	(void)printf("\naccounting         %s\n",
		     balanced(load)
			     ? (load->options.accounting ? "balances" : "each order decided once")
		     : load->error != NULL ? load->error
					   : "an accepted order was not decided, or decided twice");
}

static bool write_files(const struct load *load)
{
	char path[4096];
	FILE *file;

	if (mkdir(load->options.out, 0777) != 0 && errno != EEXIST)
		return false;
	(void)snprintf(path, sizeof(path), "%s/latency.tsv", load->options.out);
	file = fopen(path, "w");
	if (file == NULL)
		return false;
	(void)fprintf(file, "# share\tms to accepted\n");
	hist_write(&load->accepted_hist, file);
	(void)fprintf(file, "\n\n# share\tms to decided\n");
	hist_write(&load->decided_hist, file);
	(void)fclose(file);
	(void)snprintf(path, sizeof(path), "%s/series.tsv", load->options.out);
	file = fopen(path, "w");
	if (file == NULL)
		return false;
	(void)fprintf(file,
		      "# warm-up s\t%.3f\n# second\tsent\taccepted\tdecided\tp50 ms\tp99 ms\n",
		      (double)load->options.warmup_ms / 1000);
	for (size_t i = 0; i < load->second_count; i++)
		if (load->seconds[i].sent > 0 || load->seconds[i].decided > 0)
			(void)fprintf(file, "%zu\t%llu\t%llu\t%llu\t%.3f\t%.3f\n", i,
				      (unsigned long long)load->seconds[i].sent,
				      (unsigned long long)load->seconds[i].accepted,
				      (unsigned long long)load->seconds[i].decided,
				      hist_ms(load->seconds[i].decided_hist, 0.5),
				      hist_ms(load->seconds[i].decided_hist, 0.99));
	return fclose(file) == 0;
}

/* ---- start and end ---- */

static void make_skus(struct load *load)
{
	double sum = 0;

	load->sku_names = rt_alloc(sizeof(char *) * (size_t)load->options.skus);
	load->zipf = rt_alloc(sizeof(double) * (size_t)load->options.skus);
	load->booked = rt_alloc(sizeof(int64_t) * (size_t)load->options.skus);
	load->opening = rt_alloc(sizeof(int64_t) * (size_t)load->options.skus);
	for (size_t i = 0; i < (size_t)load->options.skus; i++) {
		load->sku_names[i] = rt_printf(LOAD_SKU, (unsigned)i);
		sum += 1.0 / (double)(i + 1);
		load->zipf[i] = sum;
	}
	for (size_t i = 0; i < (size_t)load->options.skus; i++)
		load->zipf[i] /= sum;
}

static void channel_freed(void *user)
{
	rt_loop_stop(((struct load *)user)->loop);
}

static int load_start(struct load *load)
{
	struct rt_channel_options channel = { .connections = (int)load->options.connections };

	if (rt_loop_new(&load->loop) != RT_OK)
		return RT_SYSTEM;
	ctl_secure(load->ctl, load->loop, load->options.target, &channel, &load->tls);
	if (rt_channel_new(load->loop, load->options.target, &channel, &load->channel) != RT_OK)
		return RT_SYSTEM;
	ctl_use_healthy(load->loop, load->channel, load->options.target);
	load->orders = rt_client_new(load->channel, &tandem__order__v1__order_service__descriptor);
	load->inventory =
		rt_client_new(load->channel, &tandem__inventory__v1__inventory_service__descriptor);
	rt_timer_start(load->loop, &load->timer, 0, start_phases);
	rt_loop_run(load->loop);
	return RT_OK;
}

static void load_end(struct load *load)
{
	load_tail_free(load);
	if (load->channel != NULL) {
		rt_channel_free(load->channel, channel_freed, load);
		rt_loop_run(load->loop);
	}
	load_run_free(load);
	rt_client_free(load->orders);
	rt_client_free(load->inventory);
	rt_tls_free(load->tls);
	rt_loop_free(load->loop);
	for (size_t i = 0; load->sku_names != NULL && i < (size_t)load->options.skus; i++)
		free(load->sku_names[i]);
	free(load->sku_names);
	free(load->zipf);
	free(load->booked);
	free(load->opening);
	for (size_t i = 0; i < load->second_count; i++)
		free(load->seconds[i].decided_hist);
	free(load->seconds);
}

static int load_verdict(struct load *load, int rc)
{
	if (rc != RT_OK)
		load->error = "the load generator could not be started";
	if (load->options.out != NULL && !write_files(load))
		load->error = "the files of --out could not be written";
	if (load->error == NULL && load->count.sent > 0 && load->count.accepted == 0)
		load->error = "no order was accepted";
	if (load->count.sent == 0 && load->error != NULL) {
		ctl_error("%s", load->error);
		return CTL_UNAVAILABLE;
	}
	if (load->options.json)
		report_json(load);
	else
		report_table(load);
	return balanced(load) ? CTL_OK : CTL_NEGATIVE;
}

/* Uses connections of its own, which are closed before the load begins. */
static int prepare_stock(const struct ctl *ctl, struct load *load)
{
	struct ctl asking = *ctl;
	int code = CTL_OK;

	if (load->options.clean)
		code = load_stock_clean(&asking, &load->options);
	else if (load->options.accounting)
		code = load_stock_open(&asking, &load->options, load->opening);
	if (code == CTL_OK && !load->options.clean && !load->options.wait) {
		load->options.partitions = ctl_partitions(&asking);
		ctl_redis_url(&asking, &load->options.redis);
		code = load->options.partitions > 0 ? CTL_OK : CTL_UNAVAILABLE;
	}
	ctl_connections_done(&asking);
	return code;
}

static int load_command(struct ctl *ctl, void *options)
{
	static struct load load; /* too large for a stack, because of its histograms */
	int rc;

	load.options = *(const struct load_options *)options;
	load.ctl = ctl;
	load.options.target = ctl->gateway;
	load.options.json = ctl->json;
	if (load.options.lines > load.options.skus)
		load.options.lines = load.options.skus;
	load.random = (uint64_t)load.options.seed;
	make_skus(&load);
	ctl_rpc_init();
	rc = prepare_stock(ctl, &load);
	if (rc == CTL_OK && !load.options.clean && !load.options.wait &&
	    (!ctl_redis_login(ctl, &load.options.login) ||
	     !ctl_sentinel_login(ctl, &load.options.sentinel) ||
	     !ctl_tls_open(ctl, &load.options.redis)))
		rc = CTL_UNAVAILABLE;
	load.options.tls = ctl->tls;
	if (rc == CTL_OK && !load.options.clean)
		rc = load_verdict(&load, load_start(&load));
	load_end(&load);
	rt_rpc_shutdown();
	return rc;
}

const struct ctl_command ctl_load = {
	.name = "load",
	.about = "Places orders and checks their outcome",
	.text = "Places orders at a given rate, or as fast as possible, and checks their "
		"outcome.\vExamples:\n"
		"  tandemctl load --rate 2000 --duration 30s\n"
		"  tandemctl load --saturate --mode unary --out /tmp/run\n"
		"  tandemctl load --rate 500 --poisson --confirm 60 --cancel 10 --json\n"
		"  tandemctl load --clean\n\n"
		"The SKUs are load-0000 and on, the customers load-customer-0 and on. When Tandem "
		"holds stock of any other SKU, load asks first; without a terminal it needs "
		"--yes, else it writes nothing. --clean cancels the PENDING and RESERVED orders of "
		"these customers (as many as --customers says), then takes the available stock "
		"out. Settled orders, what they bought and SKUs without stock remain.\n\n"
		"Latency is counted from the instant an order was meant to leave. Exit codes: 0 "
		"the accounting balances, 1 it does not, 2 wrong usage, 3 Tandem did not answer.",
	.options = load_options_known,
	.parse = parse,
	.options_size = sizeof(struct load_options),
	.run = load_command,
};
