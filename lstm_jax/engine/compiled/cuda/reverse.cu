// The reverse of a gated cell's steps over all time.
//
// The gradients of the outputs, the states after all steps and what the cell keeps of
// them
// (..., T, B, H), the recurrent weights, the cell's own parameters, the states that the
// first step and resets start from and the gradients of the last state (..., B, H), masks
// (..., T, B)
// -> the gradients of the first state, and of the one that resets return to (..., B, H),
// and those of the two products, (..., T, B, U H) and (..., T, B, V H), the second only
// where it is not the first.

enum {
  IN_DY,
  IN_STATES,
  IN_KEPT = IN_STATES + S,
  IN_WEIGHTS = IN_KEPT + K,
  IN_OWN,
  IN_FIRST = IN_OWN + P,
  IN_RESET = IN_FIRST + S,
  IN_DLAST = IN_RESET + RESETS * S,
  IN_VALID = IN_DLAST + S,
  IN_CARRIED = IN_VALID + MASKED,
  IN_COUNTER = IN_CARRIED + RESETS,
  OUT_DFIRST = IN_COUNTER + (FORM == GRID),
  OUT_DRESET = OUT_DFIRST + S,
  OUT_DU = OUT_DRESET + RESETS * S,
  OUT_DV = OUT_DU + 1,
  OUT_SCRATCH = OUT_DV + !SAME,
  OUT_COUNTER = OUT_SCRATCH + (FORM == GRID),
  ARRAYS = OUT_COUNTER + (FORM == GRID)
};

using Arguments = Arrays<ARRAYS>;

using Recurrent = Product<V * UNITS, H>;
constexpr int PARTS = BLOCKS * Recurrent::kSlots;  // of the gradient of a unit's h
// What blocks of a grid give each other in a step, by owner: (BLOCKS, PARTS, ROWS, UNITS).
constexpr int GIVEN = BLOCKS * PARTS * ROWS * UNITS;

enum {
  AHEAD_BEFORE,
  AHEAD_KEPT = S,
  AHEAD_DY = AHEAD_KEPT + K,
  AHEAD_VALID,
  AHEAD_CARRIED = AHEAD_VALID + MASKED,
  FIELDS = AHEAD_CARRIED + RESETS
};

struct Shared {
  __align__(16) real rows[2][ROWS * Recurrent::kStride];  // dv, what the product is of
  __align__(16) real parts[2][FORM == GRID ? 1 : PARTS][ROWS][UNITS];
  __align__(16) Four stash[Recurrent::kStash + 1];
  Ahead<FIELDS> ahead;
  Mailbox boxes[2];
};
static_assert(sizeof(Shared) <= SHARED_BYTES, "shared memory");

extern "C" __global__ void __launch_bounds__(THREADS, 1) run(const Arguments a) {
  SHARED(Shared, shared);
  const Place place(a.sizes);
  const bool reverse = !a.sizes.reverse;
  const int steps = a.sizes.steps;
  const int thread = place.thread;

  const Recurrent product(thread, shared.stash, [&](int n, int k) {
    const int unit = place.rank * UNITS + n % UNITS;
    if (H % BLOCKS != 0 && unit >= H) return real(0);
    return read(a.in(IN_WEIGHTS)[place.weight(k, n / UNITS, unit)]);
  });
#if FORM == CLUSTER
  Team team(shared.boxes, place.rows * max(0, min(UNITS, H - place.rank * UNITS)) *
                              PARTS * sizeof(real));
#elif FORM == GRID
  Team team(static_cast<unsigned*>(a.arrays[OUT_COUNTER]) + place.team);
  real* const given =
      static_cast<real*>(a.arrays[OUT_SCRATCH]) + (size_t)place.team * 2 * GIVEN;
#else
  Team team;
#endif

  for (int i = thread; i < 2 * ROWS * Recurrent::kStride; i += THREADS)
    (&shared.rows[0][0])[i] = real(0);

  // Of each of the thread's elements the gradient of the state, and what the next step's
  // reverse needs: `before` is the state before the step, if it is carried.
  real dstate[EACH][S], before[EACH][S], old[EACH][S], made[EACH][S], kept[EACH][K + 1],
      dy[EACH];
  real own[EACH][P + 1], ready[EACH][READY + 1];
  bool valid[EACH];
#if RESETS
  real initial[EACH][S], dinitial[EACH][S];
  bool carried[EACH];
#endif
  // Where the state before the n-th step is, among the first states for the last step.
  auto place_before = [&](int n, const Element& element) {
    if (n + 1 == steps) return place.state(element.row, element.unit);
    return place.sequence(place.step(n + 1, reverse), element.row, 1, 0, element.unit);
  };
  auto start_copies = [&](int n) {
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists || n >= steps) continue;
      const int t = place.step(n, reverse);
#pragma unroll
      for (int i = 0; i < S; ++i) {
        // An index that is not known when this is compiled would put all of `a` into
        // memory.
        const value* const from =
            n + 1 == steps ? a.in(IN_FIRST + i) : a.in(IN_STATES + i);
        copy_ahead(&shared.ahead.slot(n, AHEAD_BEFORE + i, element), from,
                   place_before(n, element));
      }
#pragma unroll
      for (int i = 0; i < K; ++i)
        copy_ahead(&shared.ahead.slot(n, AHEAD_KEPT + i, element), a.in(IN_KEPT + i),
                   place.sequence(t, element.row, 1, 0, element.unit));
      copy_ahead(&shared.ahead.slot(n, AHEAD_DY, element), a.in(IN_DY),
                 place.sequence(t, element.row, 1, 0, element.unit));
#if MASKED
      copy_ahead(&shared.ahead.slot(n, AHEAD_VALID, element), a.truth(IN_VALID),
                 place.mask(t, element.row));
#endif
#if RESETS
      copy_ahead(&shared.ahead.slot(n, AHEAD_CARRIED, element), a.truth(IN_CARRIED),
                 place.mask(t, element.row));
#endif
    }
    end_copies();
  };
  // Takes what was copied for the n-th step, and computes what needs no gradient.
  auto take = [&](int n) {
    wait_for_copies<AHEAD - 1>();
    const int t = place.step(n, reverse);
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists) continue;
      const size_t at = place.sequence(t, element.row, 1, 0, element.unit);
#if MASKED
      valid[each] = copied<unsigned char>(shared.ahead.slot(n, AHEAD_VALID, element),
                                          place.mask(t, element.row));
#else
      valid[each] = true;
#endif
#if RESETS
      carried[each] = copied<unsigned char>(shared.ahead.slot(n, AHEAD_CARRIED, element),
                                            place.mask(t, element.row));
#endif
#pragma unroll
      for (int i = 0; i < S; ++i) {
        made[each][i] = before[each][i];
        before[each][i] = read(copied<value>(
            shared.ahead.slot(n, AHEAD_BEFORE + i, element), place_before(n, element)));
        old[each][i] = before[each][i];
#if RESETS
        if (!carried[each]) old[each][i] = initial[each][i];
#endif
      }
#pragma unroll
      for (int i = 0; i < K; ++i)
        kept[each][i] =
            read(copied<value>(shared.ahead.slot(n, AHEAD_KEPT + i, element), at));
      dy[each] = read(copied<value>(shared.ahead.slot(n, AHEAD_DY, element), at));
      prepare(own[each], old[each], made[each], kept[each], ready[each]);
    }
  };
#pragma unroll
  for (int n = 0; n < AHEAD; ++n) start_copies(n);
#pragma unroll
  for (int each = 0; each < EACH; ++each) {
    const Element element(place, each);
    if (!element.exists) continue;
    const size_t at = place.state(element.row, element.unit);
#pragma unroll
    for (int i = 0; i < S; ++i) dstate[each][i] = read(a.in(IN_DLAST + i)[at]);
#pragma unroll
    for (int i = 0; i < P; ++i)
      own[each][i] = read(a.in(IN_OWN + i)[place.own(element.unit)]);
#if RESETS
#pragma unroll
    for (int i = 0; i < S; ++i) {
      initial[each][i] = read(a.in(IN_RESET + i)[at]);
      dinitial[each][i] = real(0);
    }
#endif
    const size_t last =
        place.sequence(place.step(0, reverse), element.row, 1, 0, element.unit);
#pragma unroll
    for (int i = 0; i < S; ++i) before[each][i] = read(a.in(IN_STATES + i)[last]);
  }
  take(0);
  team.start();

  for (int n = 0; n < steps; ++n) {
    const int t = place.step(n, reverse);
    real du[EACH][U];
#if SAME
    real(&dv)[EACH][V] = du;
#else
    real dv[EACH][V];
#endif
    real* const rows = shared.rows[n % 2];
#if RESETS
    bool from_initial[EACH];
#endif
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists) continue;
#pragma unroll
      for (int i = 0; i < U; ++i) du[each][i] = real(0);
#if !SAME
#pragma unroll
      for (int i = 0; i < V; ++i) dv[each][i] = real(0);
#endif
#if RESETS
      from_initial[each] = false;
#endif
      if (valid[each]) {
        real dold[S];
        dstate[each][0] += dy[each];
        reverse_step(own[each], old[each], made[each], kept[each], dstate[each],
                     ready[each], dold, du[each], dv[each]);
#pragma unroll
        for (int i = 0; i < S; ++i) dstate[each][i] = dold[i];
#if RESETS
        from_initial[each] = !carried[each];
        if (from_initial[each]) {
#pragma unroll
          for (int i = 0; i < S; ++i) {
            dinitial[each][i] += dold[i];
            dstate[each][i] = real(0);
          }
        }
#endif
      }
#pragma unroll
      for (int i = 0; i < V; ++i)
        rows[element.row * Recurrent::kStride +
             Recurrent::place(i * UNITS + element.local)] =
            Recurrent::operand(dv[each][i]);
    }
    __syncthreads();
    product(rows, [&](int slot, int row, int k, real sum) {
      if (row >= place.rows) return;
      const int owner = k / UNITS, part = place.rank * Recurrent::kSlots + slot;
#if FORM == GRID
      real* const there =
          given + n % 2 * GIVEN + ((owner * PARTS + part) * ROWS + row) * UNITS +
          k % UNITS;
#else
      real* const there = &shared.parts[n % 2][part][row][k % UNITS];
#endif
      team.give(there, owner, sum, n);
    });
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists) continue;
#pragma unroll
      for (int i = 0; i < U; ++i)
        a.out(OUT_DU)[place.sequence(t, element.row, U, i, element.unit)] =
            written(du[each][i]);
#if !SAME
#pragma unroll
      for (int i = 0; i < V; ++i)
        a.out(OUT_DV)[place.sequence(t, element.row, V, i, element.unit)] =
            written(dv[each][i]);
#endif
    }
    start_copies(n + AHEAD);
    if (n + 1 < steps) take(n + 1);
    team.receive(n);
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists) continue;
      const real dh = total<PARTS>([&](int part) {
#if FORM == GRID
        return fetch(given + n % 2 * GIVEN +
                     ((place.rank * PARTS + part) * ROWS + element.row) * UNITS +
                     element.local);
#else
        return shared.parts[n % 2][part][element.row][element.local];
#endif
      });
#if RESETS
      if (from_initial[each])
        dinitial[each][0] += dh;
      else
#endif
        dstate[each][0] += dh;
    }
  }
#pragma unroll
  for (int each = 0; each < EACH; ++each) {
    const Element element(place, each);
    if (!element.exists) continue;
    const size_t at = place.state(element.row, element.unit);
#pragma unroll
    for (int i = 0; i < S; ++i) {
      a.out(OUT_DFIRST + i)[at] = written(dstate[each][i]);
#if RESETS
      a.out(OUT_DRESET + i)[at] = written(dinitial[each][i]);
#endif
    }
  }
  team.end();
}
