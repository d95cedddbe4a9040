import Invalidation
import Testing

@Suite("The state of a process by itself")
struct LocalStateTests {
  /// A state in generation 1 that began at 100.
  static func begun() -> LocalState {
    var state = LocalState()
    state.begin(Generation(1), applied: LSN(100), visible: LSN(100))
    return state
  }

  static func apply(
    _ state: inout LocalState, to applied: UInt64, fence: UInt64? = nil, generation: UInt64 = 1,
    beat: UInt64? = nil, part: Int = 1, parts: Int = 1, _ keys: String...
  ) -> (reply: StateReply, evicted: [String]) {
    var evicted: [String] = []
    let reply = state.apply(
      ApplyRequest(
        check: check(generation, 0), applied: LSN(applied), visible: LSN(applied),
        fence: LSN(fence ?? applied), sampled: beat.map { Instant(nanoseconds: $0) }, part: part, parts: parts
      ),
      packed(keys)
    ) { evicted.append(String(decoding: $0, as: UTF8.self)) }
    return (reply, evicted)
  }

  static func packed(_ keys: [String]) -> PackedKeys {
    var packed = PackedKeys()
    for key in keys { Array(key.utf8).withUnsafeBytes { packed.append($0) } }
    return packed
  }

  static func refusal(_ state: LocalState, _ lease: Lease?, _ key: String) -> LocalState.Refusal? {
    guard let lease else { return .noState }
    return Array(key.utf8).withUnsafeBytes { state.refusal(lease, $0) }
  }

  static func lease(_ visible: UInt64, _ deletions: UInt64 = 0, generation: UInt64 = 1) -> Lease {
    Lease(
      generation: Generation(generation), stamp: Stamp(visible: LSN(visible), deletions: deletions))
  }

  @Test("before the first generation there is no lease, and no fill is taken")
  func empty() {
    var state = LocalState()
    #expect(state.lease == nil)
    #expect(Self.refusal(state, Self.lease(100), "a") == .noState)
    #expect(Self.apply(&state, to: 200, "a").reply == .fenced)
  }

  @Test("a lease given now is good until its key is changed, and no other key's change matters")
  func fences() {
    var state = Self.begun()
    let before = state.lease
    #expect(before == Self.lease(100))
    #expect(Self.refusal(state, before, "a") == nil)
    let (reply, evicted) = Self.apply(&state, to: 200, "a", "b")
    #expect(reply == .applied(W: LSN(200), V: LSN(200), generationAsked: false))
    #expect(evicted == ["a", "b"])
    #expect(Self.refusal(state, before, "a") == .fence)
    #expect(Self.refusal(state, before, "c") == nil)
    #expect(state.lease == Self.lease(200))
    #expect(Self.refusal(state, state.lease, "a") == nil)
  }

  @Test("the refusals, in the order of the scripts")
  func order() {
    var state = Self.begun()
    _ = Self.apply(&state, to: 200, "a")
    // Everything speaks against it: another generation is what is said.
    #expect(Self.refusal(state, Self.lease(50, generation: 2), "a") == .generation)
    #expect(Self.refusal(state, Self.lease(50), "a") == .floor)
    #expect(Self.refusal(state, Self.lease(99, .max), "c") == .floor)
    #expect(Self.refusal(state, Self.lease(100), "c") == nil)
    #expect(Self.refusal(state, Self.lease(199, .max), "a") == .fence)
    #expect(Self.refusal(state, Self.lease(200), "a") == nil)
  }

  @Test("in a batch of several steps a lease given between them is void for the keys already gone")
  func steps() {
    var state = Self.begun()
    _ = Self.apply(&state, to: 100, fence: 200, part: 1, parts: 2, "a")
    #expect((state.applied, state.visible) == (LSN(100), LSN(100)))
    let between = state.lease
    #expect(Self.refusal(state, between, "a") == .fence)
    _ = Self.apply(&state, to: 200, part: 2, parts: 2, "b")
    #expect(Self.refusal(state, between, "a") == .fence)
    #expect(Self.refusal(state, between, "b") == .fence)
    #expect(Self.refusal(state, state.lease, "a") == nil)
  }

  @Test("watermarks never go back, and an end that was applied before raises no fence")
  func redelivery() {
    var state = Self.begun()
    _ = Self.apply(&state, to: 300, "b")
    let (reply, evicted) = Self.apply(&state, to: 200, "a")
    #expect(reply == .applied(W: LSN(300), V: LSN(300), generationAsked: false))
    #expect(evicted == ["a"])
    #expect(Self.refusal(state, state.lease, "a") == nil)
    #expect(Self.refusal(state, Self.lease(250), "b") == .fence)
  }

  @Test("a write of another generation is refused and evicts nothing")
  func fenced() {
    var state = Self.begun()
    let (reply, evicted) = Self.apply(&state, to: 200, generation: 2, beat: 1, "a")
    #expect(reply == .fenced)
    #expect(evicted == [])
    #expect(state.applied == LSN(100))
    #expect(state.certificate == nil)
  }

  @Test("an application's deletion voids the leases given before it, not those given after it")
  func deletions() {
    var state = Self.begun()
    let before = state.lease
    Array("a".utf8).withUnsafeBytes { state.fence($0) }
    let after = state.lease
    #expect(after == Self.lease(100, 1))
    #expect(Self.refusal(state, before, "a") == .fence)
    #expect(Self.refusal(state, after, "a") == nil)
    #expect(Self.refusal(state, before, "b") == nil)
    // A change in the log still outranks it, and it never lowers the fence of one.
    _ = Self.apply(&state, to: 100, fence: 200, part: 1, parts: 2, "a")
    Array("a".utf8).withUnsafeBytes { state.fence($0) }
    #expect(Self.refusal(state, state.lease, "a") == .fence)
  }

  @Test("a new generation forgets fences, deletions and evidence, and its floor is where it began")
  func begin() {
    var state = Self.begun()
    Array("a".utf8).withUnsafeBytes { state.fence($0) }
    _ = Self.apply(&state, to: 300, beat: 5, "a")
    let before = state.lease
    state.begin(Generation(2), applied: LSN(250), visible: LSN(240))
    #expect(state.certificate == nil)
    #expect((state.applied, state.visible, state.deletions) == (LSN(250), LSN(240), 0))
    #expect(state.floor == Stamp(visible: LSN(250), deletions: 0))
    #expect(Self.refusal(state, before, "a") == .generation)
    #expect(Self.refusal(state, Self.lease(249, .max, generation: 2), "c") == .floor)
    // Until V has reached the position at which the generation began, nobody fills.
    #expect(Self.refusal(state, state.lease, "a") == .floor)
    #expect(Self.refusal(state, Self.lease(250, generation: 2), "a") == nil)
  }

  @Test("only a beat certifies, and no later instant than that of its sample")
  func certificate() {
    var state = Self.begun()
    _ = Self.apply(&state, to: 200, "a")
    #expect(state.certificate == nil)
    _ = Self.apply(&state, to: 200, beat: 20)
    #expect(state.certificate == Instant(nanoseconds: 20))
    _ = Self.apply(&state, to: 200, fence: 300, part: 1, parts: 3, "a")
    _ = Self.apply(&state, to: 200, fence: 300, part: 2, parts: 3, "b")
    #expect(state.certificate == Instant(nanoseconds: 20))
    _ = Self.apply(&state, to: 300, beat: 100, part: 3, parts: 3, "c")
    #expect(state.certificate == Instant(nanoseconds: 100))
  }
}
