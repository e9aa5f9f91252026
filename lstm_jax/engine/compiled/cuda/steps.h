// What both directions share: who computes what, and how blocks give each other numbers.
//
// Rows of the batch do not depend on each other. A team of BLOCKS blocks takes ROWS rows
// of one problem through all steps; each block has UNITS of the H hidden units, with all
// that belongs to them: their columns of the recurrent weights stay on chip. A problem is
// one head of one of the problems that a vmap makes.

constexpr int UNITS = (H + BLOCKS - 1) / BLOCKS;

// A unit in a row is an element; the threads of a block divide theirs. In a DIRECT
// forward the lanes that share the sums of a thread's columns, V for an element, compute
// what these are for: COPIES lanes the same element.
#if DIRECT
constexpr int ACROSS = COLUMNS / V;  // elements of a row, before they are shared out
constexpr int EACH = left(ROWS * ACROSS, SPLIT), COPIES = copies(ROWS * ACROSS, SPLIT);
constexpr int ELEMENTS = EACH * THREADS;
constexpr bool FULL = THREADS / SPLIT * ACROSS == UNITS;
// No warp is without an element: the others would not wait for it.
static_assert(COLUMNS % V == 0 && H % BLOCKS == 0, "tile");
static_assert(THREADS / SPLIT * ACROSS - UNITS < 32 / SPLIT * ACROSS, "tile");
#else
constexpr int ELEMENTS = ROWS * UNITS;
constexpr int EACH = (ELEMENTS + THREADS - 1) / THREADS, COPIES = 1;
constexpr bool FULL = H % BLOCKS == 0 && ELEMENTS % THREADS == 0;
#endif

struct Sizes {
  int steps, batch, reverse, first_team;
};

// A kernel's arguments and results, as `launch.cc` passes them.
template <int kArrays>
struct Arrays {
  void* arrays[kArrays];
  Sizes sizes;

  __device__ __forceinline__ const value* in(int i) const {
    return static_cast<const value*>(arrays[i]);
  }
  __device__ __forceinline__ value* out(int i) const {
    return static_cast<value*>(arrays[i]);
  }
  __device__ __forceinline__ const unsigned char* truth(int i) const {
    return static_cast<const unsigned char*>(arrays[i]);
  }
};

// The rows and units of this block, and where their numbers are.
struct Place {
  int thread, rank, head, first_row, rows, team;
  unsigned problem;
  Sizes sizes;

  __device__ __forceinline__ explicit Place(const Sizes& sizes) : sizes(sizes) {
    const int tiles = (sizes.batch + ROWS - 1) / ROWS;
    team = sizes.first_team + blockIdx.x / BLOCKS;
    thread = held(threadIdx.x);
    rank = held(blockIdx.x % BLOCKS);
    first_row = team % tiles * ROWS;
    rows = min(ROWS, sizes.batch - first_row);
    head = team / tiles % HEADS;
    problem = team / tiles / HEADS;
  }

  // Of an array (..., B, N H): the number of a row and unit.
  __device__ __forceinline__ size_t state(int row, int unit) const {
    return ((size_t)problem * sizes.batch + first_row + row) * (HEADS * H) + head * H +
           unit;
  }
  // Of an array (..., T, B, blocks H), that of a step, row, column block and unit.
  __device__ __forceinline__ size_t sequence(int t, int row, int blocks, int block,
                                             int unit) const {
    return (size_t)mask(t, row) * (blocks * HEADS * H) +
           ((block * HEADS + head) * H + unit);
  }
  // Of a mask (..., T, B); `launch.cc` refuses those with 2^32 entries.
  __device__ __forceinline__ unsigned mask(int t, int row) const {
    return (problem * sizes.steps + t) * sizes.batch + first_row + row;
  }
  // Of a parameter (..., H).
  __device__ __forceinline__ size_t own(int unit) const {
    return ((size_t)problem * HEADS + head) * H + unit;
  }
  // Of the recurrent weights, from unit k to a column block of unit j: (..., H, V H), or,
  // by head, (..., V, heads, H, H).
  __device__ __forceinline__ size_t weight(int k, int block, int j) const {
    const size_t first = (size_t)problem * V * HEADS * H * H;
    if (HEADS == 1) return first + (k * V + block) * H + j;
    return first + ((size_t)(block * HEADS + head) * H + k) * H + j;
  }
  // The n-th step in a direction.
  __device__ __forceinline__ int step(int n, bool reverse) const {
    return reverse ? sizes.steps - 1 - n : n;
  }
};

// One of a block's units in one of its rows, and which of the COPIES this thread has.
struct Element {
  int index, row, local, unit, copy;
  bool exists;

  __device__ __forceinline__ Element(const Place& place, int each) {
    index = place.thread + each * THREADS;
#if DIRECT
    const int lane = place.thread % SPLIT;
    const int at = first_left(ROWS * ACROSS, SPLIT, lane) + each;
    row = at / ACROSS;
    local = place.thread / SPLIT * ACROSS + at % ACROSS;
    copy = lane % COPIES;
#else
    row = index / UNITS;
    local = index % UNITS;
    copy = 0;
#endif
    unit = place.rank * UNITS + local;
    exists = (FULL && ROWS == 1) || (row < place.rows && local < UNITS && unit < H);
  }
};

// What steps need of memory, copied AHEAD steps before: the way from there can take
// longer than a step. A thread reads what it copied itself.
template <int kFields>
struct Ahead {
  Slot slots[AHEAD][kFields][ELEMENTS];

  __device__ __forceinline__ Slot& slot(int n, int field, const Element& element) {
    return slots[n % AHEAD][field][element.index];
  }
};

// Gives numbers to the team's blocks, its own included, once a step.
//
// In a cluster they go straight into the other block's shared memory, and count there as
// they arrive; in a grid they go through memory, and all blocks wait for each other.
struct Team {
#if FORM == CLUSTER
  Mailbox* boxes;
  unsigned bytes;

  // `bytes` is what arrives in a step. Two steps may be under way.
  __device__ __forceinline__ Team(Mailbox* boxes, unsigned bytes)
      : boxes(boxes), bytes(bytes) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2; ++i) {
        open_mailbox(boxes + i);
        expect(boxes + i, bytes);
      }
    }
  }
  __device__ __forceinline__ void start() { meet(); }
  __device__ __forceinline__ void give(real* there, int rank, real x, int n) {
    send(there, rank, x, boxes + n % 2);
  }
  __device__ __forceinline__ void receive(int n) {
    wait_for(boxes + n % 2, n / 2 % 2);
    if (threadIdx.x == 0) expect(boxes + n % 2, bytes);
  }
  __device__ __forceinline__ void end() { meet(); }
#elif FORM == GRID
  unsigned* counter;
  unsigned met = 0;

  __device__ __forceinline__ explicit Team(unsigned* counter) : counter(counter) {}
  __device__ __forceinline__ void start() { __syncthreads(); }
  __device__ __forceinline__ void give(real* there, int, real x, int) { *there = x; }
  __device__ __forceinline__ void receive(int) { meet_at(counter, ++met * BLOCKS); }
  __device__ __forceinline__ void end() {}
#else
  __device__ __forceinline__ void start() { __syncthreads(); }
  __device__ __forceinline__ void give(real* there, int, real x, int) { *there = x; }
  __device__ __forceinline__ void receive(int) { __syncthreads(); }
  __device__ __forceinline__ void end() {}
#endif
};
