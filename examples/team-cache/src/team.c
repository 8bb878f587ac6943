#include "team.h"

const char *team(void) { return "team"; }
