/* Runs commands interleaved and prints, for each, the median and the tenth percentile of the wall time of
 * posix_spawn (vfork + exec) + wait, in nanoseconds, and the largest ru_maxrss seen, in KiB.
 * usage: drive ROUNDS COMMAND... ; a command is one word, its words separated by blanks.
 * The order is shuffled anew in each round: what one command leaves to the kernel's workers (a network namespace is
 * taken down after its last process) then falls on all others alike. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
extern char **environ;
struct job { char *argv[64]; long *ns; long maxrss; };
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static int by_size(const void *a, const void *b) { long x = *(const long *)a, y = *(const long *)b; return (x > y) - (x < y); }
int main(int argc, char **argv) {
    int rounds = atoi(argv[1]), n = argc - 2, warm = 5;
    struct job *jobs = calloc(n, sizeof *jobs);
    int *order = calloc(n, sizeof *order);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    for (int i = 0; i < n; i++) {
        int words = 0;
        for (char *w = strtok(argv[i + 2], " "); w && words < 63; w = strtok(NULL, " ")) jobs[i].argv[words++] = w;
        jobs[i].ns = calloc(rounds, sizeof(long));
        order[i] = i;
    }
    srand(1);
    for (int round = -warm; round < rounds; round++) {
        for (int i = n - 1; i > 0; i--) { int j = rand() % (i + 1), t = order[i]; order[i] = order[j]; order[j] = t; }
        for (int k = 0; k < n; k++) {
            struct job *job = &jobs[order[k]];
            pid_t pid; int status, error; struct rusage usage;
            long start = now();
            if ((error = posix_spawnp(&pid, job->argv[0], &files, NULL, job->argv, environ))) { fprintf(stderr, "%s: %s\n", job->argv[0], strerror(error)); return 1; }
            if (wait4(pid, &status, 0, &usage) != pid) { perror("wait4"); return 1; }
            long took = now() - start;
            if (status) { fprintf(stderr, "%s (command %d): wait status %#x in round %d\n", job->argv[0], order[k], status, round); return 1; }
            if (round >= 0) job->ns[round] = took;
            if (usage.ru_maxrss > job->maxrss) job->maxrss = usage.ru_maxrss;
        }
    }
    for (int i = 0; i < n; i++) {
        qsort(jobs[i].ns, rounds, sizeof(long), by_size);
        printf("%ld %ld %ld\n", jobs[i].ns[rounds / 2], jobs[i].ns[rounds / 10], jobs[i].maxrss);
    }
    return 0;
}
