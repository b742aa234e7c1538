/* Notes whom native code calls: loaded before libc (LD_PRELOAD), which audit hooks do not see.
   Each is a line in the file NATIVE_CALLS: the function and the host. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *whom) {
    const char *path = getenv("NATIVE_CALLS");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    char line[512];
    if (file < 0) return;
    int n = snprintf(line, sizeof line, "%s %.400s\n", what, whom);
    if (write(file, line, n) < 0) _exit(99);
    close(file);
}

static void note_address(const char *what, const struct sockaddr *address) {
    char host[INET6_ADDRSTRLEN] = "";
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, host, sizeof host);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, host, sizeof host);
    else
        return;
    note(what, host);
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (!next) next = dlsym(RTLD_NEXT, "connect");
    note_address("connect", address);
    return next(fd, address, length);
}

ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *address,
               socklen_t length) {
    static ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!next) next = dlsym(RTLD_NEXT, "sendto");
    note_address("sendto", address);
    return next(fd, data, n, flags, address, length);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!next) next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (host) note("getaddrinfo", host);
    return next(host, service, hints, found);
}

struct hostent *gethostbyname(const char *host) {
    static struct hostent *(*next)(const char *);
    if (!next) next = dlsym(RTLD_NEXT, "gethostbyname");
    note("gethostbyname", host);
    return next(host);
}
