/* Sends one request over and over at a constant rate, and says how long the answers took.

   constant_rate PORT RATE SECONDS WARM_UP_SECONDS CONNECTIONS STATUS REQUEST_FILE

   Request number n is due n / RATE seconds after the start, whether the one before it was answered or not: it waits
   here when every connection is taken, and that wait counts. One line of JSON at the end; loopback only. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 256
#define ROOM 16384
#define PATIENCE_NS 5000000000LL

typedef struct {
  long number; /* of the request that it waits for; -1: free */
  size_t count;
  char bytes[ROOM + 1];
} Connection;

static Connection connections[MOST_CONNECTIONS];
static struct pollfd sockets[MOST_CONNECTIONS];

static void give_up(const char *why) {
  fprintf(stderr, "%s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int connected(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) give_up("cannot connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

/* The status once the whole answer is there, 0 before. */
static int answered(Connection *connection) {
  connection->bytes[connection->count] = 0;
  char *end = strstr(connection->bytes, "\r\n\r\n");
  if (end == NULL) return 0;

  char *length = strcasestr(connection->bytes, "\r\nContent-Length:");
  if (length == NULL || length > end) give_up("an answer has no Content-Length");
  size_t whole = (size_t)(end + 4 - connection->bytes) + strtoul(length + 17, NULL, 10);
  if (whole > ROOM) give_up("an answer is too long");
  if (connection->count < whole) return 0;
  if (connection->count > whole) give_up("there is more than one answer to a request");
  return atoi(connection->bytes + 9);
}

static int by_size(const void *left, const void *right) {
  int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return (a > b) - (a < b);
}

int main(int count, char **words) {
  if (count != 8) give_up("see the head of the source for what to say");
  int port = atoi(words[1]), width = atoi(words[5]), expected = atoi(words[6]);
  double rate = atof(words[2]), warm_up = atof(words[4]);
  long total = (long)(rate * (atof(words[3]) + warm_up)), first = (long)(rate * warm_up);
  if (width < 1 || width > MOST_CONNECTIONS || rate <= 0 || total <= first) give_up("these numbers make no run");

  static char request[65536];
  FILE *file = fopen(words[7], "rb");
  if (file == NULL) give_up("cannot read the request");
  size_t size = fread(request, 1, sizeof request, file);
  fclose(file);

  int64_t *took = calloc((size_t)total, sizeof *took);
  if (took == NULL) give_up("no memory");
  /* A sleep ends when it should, and not up to 50 us later. */
  prctl(PR_SET_TIMERSLACK, 1UL);
  for (int i = 0; i < width; i++) {
    sockets[i] = (struct pollfd){.fd = connected(port), .events = POLLIN};
    connections[i].number = -1;
  }

  long sent = 0, done = 0, refused = 0, turn = 0;
  int busy = 0;
  int64_t begin = now_ns(), limit = begin + (int64_t)(total / rate * 1e9) + PATIENCE_NS;
  while (done < total) {
    int64_t now = now_ns();
    if (now > limit) break;

    while (sent < total && busy < width && begin + (int64_t)(sent / rate * 1e9) <= now) {
      while (connections[turn % width].number >= 0) turn++;
      Connection *free = &connections[turn % width];
      if (send(sockets[turn % width].fd, request, size, MSG_NOSIGNAL) != (ssize_t)size) give_up("cannot send");
      free->number = sent++;
      free->count = 0;
      busy++;
      turn++;
    }

    int64_t due = sent < total && busy < width ? begin + (int64_t)(sent / rate * 1e9) : limit;
    int64_t wait = due - now_ns();
    struct timespec until = {wait > 0 ? wait / 1000000000LL : 0, wait > 0 ? wait % 1000000000LL : 0};
    if (ppoll(sockets, (nfds_t)width, &until, NULL) < 0 && errno != EINTR) give_up("cannot wait");

    for (int i = 0; i < width; i++) {
      if (sockets[i].revents == 0) continue;
      Connection *connection = &connections[i];
      if (connection->number < 0) give_up("a connection was closed, or said something unasked");
      ssize_t more = recv(sockets[i].fd, connection->bytes + connection->count, ROOM - connection->count, 0);
      if (more <= 0) give_up("a connection ended in the middle");
      connection->count += (size_t)more;
      int status = answered(connection);
      if (status == 0) continue;
      took[connection->number] = now_ns() - begin - (int64_t)(connection->number / rate * 1e9);
      refused += status != expected;
      connection->number = -1;
      busy--;
      done++;
    }
  }

  long kept = total - first;
  qsort(took + first, (size_t)kept, sizeof *took, by_size);
  printf("{\"requests\": %ld, \"unanswered\": %ld, \"unexpected\": %ld, \"p50_ns\": %lld, \"p99_ns\": %lld}\n", kept,
         total - done, refused, (long long)took[first + kept / 2], (long long)took[first + kept * 99 / 100]);
  return 0;
}
