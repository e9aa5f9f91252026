// Threads in warps, blocks and teams, as CUDA has them, on a CPU.
#include <cstdint>

struct Index {
  int x;
};
extern thread_local Index threadIdx, blockIdx;

void __syncthreads();
void meet();  // all threads of a team, which is the blocks that wait for each other
void meet_in_warp();

char* shared_memory();               // of this thread's block
char* at_rank(char* own, int rank);  // the same place in another block of the team
double* lanes();  // six numbers for each thread of a warp, which all of them see

// A phase is over when one thread has said what to expect and all of it has come.
struct Mailbox {
  int64_t missing;
  int64_t phase;
};
void open_mailbox(Mailbox*);
void expect(Mailbox*, unsigned bytes);
void arrived(Mailbox*, unsigned bytes);
void wait_for(Mailbox*, unsigned parity);

struct Size {  // of a team
  int blocks, threads, shared_bytes;
};
void run_blocks(void (*kernel)(const void*), const void* arguments, Size, int blocks);
