/* Opens N sessions one after another, holds them all, and closes them one after another.
 * usage: many N COMMAND [ARG...]; the command writes one byte when its session is open and then sleeps.
 * Prints "open: median, median of the last tenth, largest" in nanoseconds; after a line on standard input it ends each
 * session by SIGTERM, waits for it, and prints the same of closing. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static int by_size(const void *a, const void *b) { long x = *(const long *)a, y = *(const long *)b; return (x > y) - (x < y); }
static void print(long *ns, int n) {
    int tail = n / 10 ? n / 10 : 1;
    qsort(ns + n - tail, tail, sizeof *ns, by_size);
    long last = ns[n - tail + tail / 2];
    qsort(ns, n, sizeof *ns, by_size);
    printf("%ld %ld %ld\n", ns[n / 2], last, ns[n - 1]);
    fflush(stdout);
}
int main(int argc, char **argv) {
    int n = atoi(argv[1]);
    pid_t *pids = calloc(n, sizeof *pids);
    long *ns = calloc(n, sizeof *ns);
    for (int i = 0; i < n; i++) {
        int ends[2], error;
        char byte;
        if (pipe2(ends, O_CLOEXEC)) { perror("pipe2"); return 1; }
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&files, ends[1], 1);
        long start = now();
        if ((error = posix_spawnp(&pids[i], argv[2], &files, NULL, argv + 2, environ))) { fprintf(stderr, "%s: %s\n", argv[2], strerror(error)); return 1; }
        close(ends[1]);
        if (read(ends[0], &byte, 1) != 1) { fprintf(stderr, "session %d did not open\n", i + 1); return 1; }
        ns[i] = now() - start;
        close(ends[0]);
        posix_spawn_file_actions_destroy(&files);
    }
    print(ns, n);
    getchar();
    for (int i = 0; i < n; i++) {
        long start = now();
        kill(pids[i], SIGTERM);
        if (waitpid(pids[i], NULL, 0) != pids[i]) { perror("waitpid"); return 1; }
        ns[i] = now() - start;
    }
    print(ns, n);
    return 0;
}
