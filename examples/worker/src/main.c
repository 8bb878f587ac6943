#include <stdio.h>

#include "name.h"

int main(void) {
    printf("hello, %s\n", name());
    return 0;
}
