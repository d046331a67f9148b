/* sim_run.c - runs seeds of the simulation on every core, and says which failed and how to replay
 * them.
 *
 *   sim_run --seeds N            N seeds from 1 on
 *           --from A             the first seed is A
 *           --seed S             this one, with its transcript
 *           --bug NAME           with a bug planted (world_bugs.c names them); ends at the first seed that
 *                                finds it
 *           --jobs J             processes at the same time; one per core by default
 *
 * A child process runs every J-th seed, so that a seed that crashes counts as one that fails. */
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "world.h"

#define JOBS_MAX 64

struct options {
	uint64_t from, count, seed;
	enum world_bug bug;
	unsigned jobs;
};

/* What a job reports about a seed. */
struct report {
	uint64_t seed;
	bool failed;
	struct world_counts counts;
};

static void no_log(const char *line, void *user)
{
	(void)line;
	(void)user;
}

static struct report run_seed(uint64_t seed, const struct options *options)
{
	struct world *world = world_run_seed(seed, options->bug, false);
	struct report report = { .seed = seed,
				 .failed = world_violations(world)[0] != '\0',
				 .counts = world_counts(world) };

	world_free(world);
	return report;
}

/* One seed in full. */
static int show_seed(const struct options *options)
{
	struct world *world = world_run_seed(options->seed, options->bug, true);
	bool failed = world_violations(world)[0] != '\0';

	fputs(world_transcript(world), stdout);
	if (failed)
		printf("seed %" PRIu64 " fails:\n%s", options->seed, world_violations(world));
	else
		printf("seed %" PRIu64 ": every promise was kept\n", options->seed);
	world_free(world);
	return failed ? 1 : 0;
}

static _Noreturn void work(const struct options *options, uint64_t first, int fd)
{
	for (uint64_t i = first; i < options->count; i += options->jobs) {
		if (options->bug != BUG_NONE &&
		    !world_bug_may_show(options->bug, options->from + i))
			continue;
		/* Written before the run too: if the run crashes, this is the last report. */
		struct report report = { .seed = options->from + i, .failed = true };

		if (write(fd, &report, sizeof(report)) != sizeof(report))
			_exit(0); /* the parent has closed the pipe */
		report = run_seed(options->from + i, options);
		if (write(fd, &report, sizeof(report)) != sizeof(report))
			_exit(0);
	}
	_exit(0);
}

struct job {
	pid_t pid;
	int fd;
	bool busy; /* a run has begun */
	uint64_t seed;
};

/* Runs every J-th seed, from the one with this index on. */
static void start_job(struct job *job, uint64_t first, const struct options *options)
{
	int fds[2];

	fflush(stdout);
	if (pipe(fds) != 0) {
		perror("pipe");
		exit(2);
	}
	job->pid = fork();
	if (job->pid < 0) {
		perror("fork");
		exit(2);
	}
	if (job->pid == 0) {
		close(fds[0]);
		work(options, first, fds[1]);
	}
	close(fds[1]);
	job->fd = fds[0];
}

static void add_counts(struct world_counts *sum, const struct world_counts *one)
{
	sum->orders += one->orders;
	sum->confirmed += one->confirmed;
	sum->cancelled += one->cancelled;
	sum->rejected += one->rejected;
	sum->expired += one->expired;
	sum->faults += one->faults;
	sum->deaths += one->deaths;
	sum->chaos += one->chaos;
	sum->failovers += one->failovers;
	sum->lost += one->lost;
	sum->owed += one->owed;
	sum->quiet_ms = RT_MAX(sum->quiet_ms, one->quiet_ms);
}

struct tally {
	uint64_t ran, failed, first_failed;
	struct world_counts counts;
};

static void count_failed(struct tally *tally, uint64_t seed)
{
	tally->failed++;
	printf("seed %" PRIu64 " FAILED\n", seed);
	if (tally->first_failed == 0 || seed < tally->first_failed)
		tally->first_failed = seed;
}

/* False: the job has ended. After a crash another continues with the next seed. */
static bool read_report(struct job *job, const struct options *options, struct tally *tally)
{
	struct report report;
	ssize_t got = read(job->fd, &report, sizeof(report));

	if (got != sizeof(report)) {
		close(job->fd);
		waitpid(job->pid, NULL, 0);
		job->fd = -1;
		if (!job->busy)
			return false;
		job->busy = false;
		count_failed(tally, job->seed);
		tally->ran++;
		start_job(job, job->seed - options->from + options->jobs, options);
		return true;
	}
	job->seed = report.seed;
	job->busy = !job->busy;
	if (!job->busy) {
		tally->ran++;
		add_counts(&tally->counts, &report.counts);
		if (report.failed)
			count_failed(tally, report.seed);
	}
	return true;
}

static struct tally run_all(const struct options *options)
{
	struct job jobs[JOBS_MAX] = { 0 };
	struct pollfd polls[JOBS_MAX];
	struct tally tally = { 0 };
	unsigned running = options->jobs;

	for (unsigned i = 0; i < options->jobs; i++) {
		start_job(&jobs[i], i, options);
		polls[i] = (struct pollfd){ .fd = jobs[i].fd, .events = POLLIN };
	}
	while (running > 0 && poll(polls, options->jobs, -1) > 0) {
		for (unsigned i = 0; i < options->jobs; i++) {
			if (polls[i].revents == 0)
				continue;
			running -= !read_report(&jobs[i], options, &tally);
			polls[i].fd = jobs[i].fd;
		}
		if (options->bug != BUG_NONE && tally.failed > 0)
			break;
	}
	for (unsigned i = 0; i < options->jobs; i++) {
		if (polls[i].fd < 0)
			continue;
		kill(jobs[i].pid, SIGKILL); /* the bug was found */
		close(jobs[i].fd);
		waitpid(jobs[i].pid, NULL, 0);
	}
	return tally;
}

static int print_result(const struct options *options, const struct tally *tally, double seconds)
{
	const struct world_counts *counts = &tally->counts;
	bool planted = options->bug != BUG_NONE;

	printf("%" PRIu64 " seeds in %.1f s: %u orders (%u confirmed, %u cancelled, %u rejected, "
	       "%u expired), %u faults, %u deaths, %u disturbances; %u failovers, %u orders lost, "
	       "%u owed; quiet after %.1f s at most\n",
	       tally->ran, seconds, counts->orders, counts->confirmed, counts->cancelled,
	       counts->rejected, counts->expired, counts->faults, counts->deaths, counts->chaos,
	       counts->failovers, counts->lost, counts->owed, (double)counts->quiet_ms / 1000);
	if (planted) {
		printf(tally->failed > 0 ? "%s found by seed %" PRIu64 " after %" PRIu64 " seeds\n"
					 : "%s was not found\n",
		       world_bug_names[options->bug], tally->first_failed, tally->ran);
		if (tally->failed > 0)
			printf("replay it: scripts/sim --bug %s --seed %" PRIu64 "\n",
			       world_bug_names[options->bug], tally->first_failed);
		return tally->failed > 0 ? 0 : 1;
	}
	if (tally->failed > 0) {
		printf("%" PRIu64 " seeds FAILED\nreplay the first: scripts/sim --seed %" PRIu64
		       "\n",
		       tally->failed, tally->first_failed);
		return 1;
	}
	printf("every promise was kept\n");
	return 0;
}

static bool parse_bug(const char *name, enum world_bug *ret)
{
	for (size_t i = BUG_NONE + 1; i < WORLD_BUGS; i++) {
		if (strcmp(name, world_bug_names[i]) == 0) {
			*ret = (enum world_bug)i;
			return true;
		}
	}
	return false;
}

static bool parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{ "seeds", required_argument, NULL, 'n' }, { "seed", required_argument, NULL, 's' },
		{ "from", required_argument, NULL, 'f' },  { "bug", required_argument, NULL, 'b' },
		{ "jobs", required_argument, NULL, 'j' },  { NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'n':
			options->count = strtoull(optarg, NULL, 10);
			break;
		case 's':
			options->seed = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			options->from = strtoull(optarg, NULL, 10);
			break;
		case 'b':
			if (!parse_bug(optarg, &options->bug))
				return false;
			break;
		case 'j':
			options->jobs = (unsigned)strtoul(optarg, NULL, 10);
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	struct options options = { .from = 1, .count = 2000 };
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct timespec began, ended;
	struct tally tally;

	options.jobs = cores > 0 ? (unsigned)cores : 1;
	if (!parse(argc, argv, &options)) {
		fprintf(stderr,
			"usage: %s [--seeds N] [--from A] [--seed S] [--bug NAME] [--jobs J]\n",
			argv[0]);
		return 2;
	}
	options.jobs = RT_MIN(RT_MAX(options.jobs, 1u), JOBS_MAX);
	/* What a seed has given back the next one takes, without asking the kernel. */
	mallopt(M_MMAP_THRESHOLD, 64 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
	rt_log_sink(no_log, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (options.seed != 0)
		return show_seed(&options);
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &began);
	tally = run_all(&options);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	return print_result(&options, &tally,
			    (double)(ended.tv_sec - began.tv_sec) +
				    (double)(ended.tv_nsec - began.tv_nsec) / 1e9);
}
