const char *team(void);
