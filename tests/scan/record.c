/* Stands in place of a compiler: appends the call to $RECORD_LOG, then runs the real one (fast: -O0), so that a build's
   calls are known. Each call is: directory, name, arguments, each ended by a zero byte, then a newline. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char text[1 << 20];
    char dir[4096], path[256];
    size_t used = 0;
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0], *log = getenv("RECORD_LOG");
    char **args = malloc((argc + 4) * sizeof *args);
    int count = argc;

    if (!getcwd(dir, sizeof dir) || !args)
        return 127;
    used += sprintf(text + used, "%s%c%s%c", dir, 0, name, 0);
    for (int at = 1; at < argc && used + strlen(argv[at]) + 2 < sizeof text; at++)
        used += sprintf(text + used, "%s%c", argv[at], 0);
    text[used++] = '\n';
    if (log) {
        int file = open(log, O_WRONLY | O_APPEND | O_CREAT, 0666);
        if (write(file, text, used) != (ssize_t)used)
            return 127;
        close(file);
    }
    memcpy(args, argv, argc * sizeof *args);
    args[count++] = "-O0";
    args[count++] = "-g0";
    args[count++] = "-w";
    args[count] = NULL;
    snprintf(path, sizeof path, "/usr/bin/%s", name);
    args[0] = path;
    execv(path, args);
    return 127;
}
