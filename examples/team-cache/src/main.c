#include <stdio.h>

#include "team.h"

int main(void) {
  printf("hello, %s\n", team());
  return 0;
}
