/* Prints everything about a session that must not differ from one run to the next. Its last word says that it is whole.
 * /srv/namespaces: those of the machine outside. */
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char text[1 << 16];

static char *read_all(const char *path) {
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    else snprintf(text, sizeof text, "no %s\n", path);
    return text;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int list(const char *path, int only_numbers, int print) {
    struct dirent **names;
    int count = 0, n = scandir(path, &names, 0, by_name);
    for (int i = 0; i < n; i++) {
        int number = names[i]->d_name[0] >= '0' && names[i]->d_name[0] <= '9';
        if (names[i]->d_name[0] == '.' || (only_numbers && !number)) continue;
        count++;
        if (print) printf("%s/%s\n", path, names[i]->d_name);
    }
    return n < 0 ? -1 : count;
}

int main(void) {
    static const char *wanted[] = {"Cap", "NoNewPrivs", "Seccomp:", "Uid", "Gid", "Groups", "SigBlk", "SigIgn"};
    char copy[4096], link[256];
    snprintf(copy, sizeof copy, "%s", read_all("/proc/self/status"));
    for (char *line = strtok(copy, "\n"); line; line = strtok(0, "\n"))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (!strncmp(line, wanted[i], strlen(wanted[i]))) printf("%s\n", line);
    /* Who watches it: PID 1 of its namespace, or the guard. */
    static const char *of_parent[] = {"Cap", "NoNewPrivs", "Seccomp:", "Uid"};
    snprintf(link, sizeof link, "/proc/%d/status", getppid());
    snprintf(copy, sizeof copy, "%s", read_all(link));
    for (char *line = strtok(copy, "\n"); line; line = strtok(0, "\n"))
        for (size_t i = 0; i < sizeof of_parent / sizeof *of_parent; i++)
            if (!strncmp(line, of_parent[i], strlen(of_parent[i]))) printf("parent %s\n", line);
    for (char *line = strtok(read_all("/proc/self/mountinfo"), "\n"); line; line = strtok(0, "\n")) {
        char root[1024], point[1024], options[256];
        if (sscanf(line, "%*s %*s %*s %1023s %1023s %255s", root, point, options) != 3) continue;
        if (!strncmp(root, "/proc/", 6)) root[6] = 0;
        printf("%s %s %s\n", root, point, options);
    }
    static const char *files[] = {"/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups",
                                  "/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/ping_group_range",
                                  "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/self/timerslack_ns",
                                  "/proc/self/oom_score_adj"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) printf("%s: %s", files[i], read_all(files[i]));
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
    int links = 0;
    for (char *c = read_all("/proc/net/dev"); *c; c++) links += *c == ':';
    printf("links %d\n", links);
    static const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
    read_all("/srv/namespaces");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(copy, sizeof copy, "/proc/self/ns/%s", kinds[i]);
        ssize_t n = readlink(copy, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = 0;
        printf("%s %s\n", kinds[i], n <= 0 ? "?" : strstr(text, link) ? "the machine's" : "own");
    }
    static const char *folders[] = {"/home", "/srv", "/srv/secret", "/proc/self/fd", "/run", "/dev/pts"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) list(folders[i], 0, 1);
    mode_t mask = umask(0);
    struct rlimit limit;
    printf("umask %o\n", mask);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (!getrlimit(i, &limit)) printf("limit %d %lx:%lx\n", i, (long)limit.rlim_cur, (long)limit.rlim_max);
    gethostname(copy, sizeof copy);
    printf("host %s\n", copy);
    const char *scope = getenv("CAPLET_SCOPE");
    if (scope && !strcmp(scope, "isolated")) printf("processes %d\n", list("/proc", 1, 0));
    cpu_set_t processors;
    int count = sched_getaffinity(0, sizeof processors, &processors) ? -1 : CPU_COUNT(&processors);
    printf("processors %d, io priority %lx\n", count, syscall(SYS_ioprio_get, 1, 0));
    printf("nice %d\nwhole\n", nice(0));
    return fflush(stdout) ? 99 : 0;
}
