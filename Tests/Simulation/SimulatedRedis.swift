import Invalidation

/// The server around the twin: its images to go back to, SCAN's order, and the followers that wait for an entry.
final class SimulatedRedis {
  private unowned let world: World
  var data = ModelRedis()
  private(set) var isUp = true
  /// Grows whenever connections to it break.
  private(set) var incarnation = 0
  /// Grows whenever writes are lost; what an application deleted before may be back.
  private(set) var losses = 0 {
    didSet { doubted = data.hash?.g }
  }
  private var doubted: Generation?
  /// Whether the present generation is one that has lost something: until the next one, leases that were given
  /// before the loss may be above the fences that are raised after it.
  var isDoubted: Bool { losses > 0 && doubted == state?.generation }
  /// When it was so last.
  private var doubtedAt: UInt64 = 0
  /// Whether a host may have evidence of a generation that has lost something.
  func wasDoubted(within time: UInt64) -> Bool {
    losses > 0 && (isDoubted || world.now - doubtedAt <= time)
  }
  var links: [Link] = []
  private var images: [Image] = []
  /// How many requests have written or might have.
  private var writes = 0
  private var waiting: [Waiter] = []
  /// The order in which SCAN comes upon the keys.
  private var layout: [Int]
  private var clockOffset: Int64 = 0
  /// The incarnation of PostgreSQL in which each generation was begun.
  private var born: [Generation: Int] = [:]

  private struct Image {
    var data: ModelRedis
    var writes: Int
  }

  private struct Waiter {
    var generation: Generation
    var position: JournalID
    var number: Int
    var answer: ([JournalEntry]) -> Void
  }
  private var waiters = 0

  init(_ world: World, weakness: ScriptWeakness) {
    self.world = world
    layout = Array(0..<world.keys.count + world.swarm.foreign)
    if world.swarm.foreign > 0 { world.shuffle(&layout) }
    data.weakness = weakness
  }

  private func tick() {
    data.clock = UInt64(Int64(world.now / 1_000_000 + 1_000_000) + clockOffset)
  }

  // MARK: Requests

  var state: FleetState? { data.state }

  func get(_ key: String) -> String? {
    tick()
    return data.value(key)?.text
  }

  /// PTTL.
  func life(_ key: String) -> Int {
    tick()
    guard let value = data.value(key) else { return -2 }
    return value.expires.map { Int($0 - data.clock) } ?? -1
  }

  /// Runs a script, and looks at what it has left behind.
  func write<Reply>(_ body: (inout ModelRedis) -> Reply) -> Reply {
    tick()
    let before = data.hash
    if isDoubted { doubtedAt = world.now }
    let reply = body(&data)
    writes += 1
    written(before)
    return reply
  }

  private func written(_ before: ModelRedis.Meta?) {
    if world.keepsImages, world.random.once(in: 2) {
      images.append(Image(data: data, writes: writes))
      if images.count > 24 { images.removeFirst(12) }
    }
    let after = data.hash
    check(before, after)
    if before?.jl != after?.jl || before?.g != after?.g { wakeUp() }
  }

  private func check(_ before: ModelRedis.Meta?, _ after: ModelRedis.Meta?) {
    guard let after, let g = after.g, let w = after.W, let v = after.V else { return }
    if v > w { world.fail("V \(v) lies above W \(w)") }
    guard let before, before.g == after.g else {
      born[g] = world.postgres.incarnation
      return
    }
    if after.W! < before.W! || after.V! < before.V! || after.n! < before.n! || after.h! < before.h!
      || after.jl! < before.jl! || after.d! < before.d!
    {
      world.fail("a watermark has gone back within generation \(g)")
    }
    guard let old = before.V, v > old, born[g] == world.postgres.incarnation else { return }
    if let hidden = world.postgres.invisible(above: old, through: v) {
      world.fail("V is \(v), and the commit at \(hidden) is not visible")
    }
  }

  /// Whether PostgreSQL has not lost anything since the generation began, nor since `incarnation`.
  func isOf(_ incarnation: Int, _ generation: Generation?) -> Bool {
    guard incarnation == world.postgres.incarnation, let generation else { return false }
    return born[generation] == incarnation
  }

  /// One step of SCAN from `cursor`.
  func scan(_ cursor: Int) -> (places: [String], next: Int) {
    let start = min(cursor, layout.count)
    let end = min(start + world.swarm.purgeCount, layout.count)
    let places = layout[start..<end].filter { $0 < world.keys.count }.map { world.keys[$0].name }
    return (places, end == layout.count ? 0 : end)
  }

  /// XREAD BLOCK: `answer` is called at once, when an entry comes, or with nothing after `patience`.
  func read(
    _ generation: Generation, after position: JournalID, patience: UInt64,
    _ answer: @escaping ([JournalEntry]) -> Void
  ) {
    tick()
    let entries = data.entries(of: generation, after: position, limit: 1000)
    guard entries.isEmpty else { return answer(entries) }
    waiters += 1
    let number = waiters
    waiting.append(Waiter(generation: generation, position: position, number: number, answer: answer))
    world.at(world.now + patience) { [self] in
      guard let index = waiting.firstIndex(where: { $0.number == number }) else { return }
      waiting.remove(at: index).answer([])
    }
  }

  private func wakeUp() {
    guard !waiting.isEmpty else { return }
    var left: [Waiter] = []
    for waiter in waiting {
      let entries = data.entries(of: waiter.generation, after: waiter.position, limit: 1000)
      if entries.isEmpty { left.append(waiter) } else { waiter.answer(entries) }
    }
    waiting = left
  }

  // MARK: Faults

  private func breakAll() {
    incarnation += 1
    waiting = []
    for link in links { link.cut(noticed: world.noticeDelay()) }
    links = []
  }

  func goDown(for time: UInt64) {
    breakAll()
    isUp = false
    world.at(world.now + time) { [self] in isUp = true }
  }

  /// A replica takes over that lacks the last writes, or the server starts again from an older file.
  /// `outliving`: a proxy leads the connections on. `latest`: how many images there are to choose from.
  @discardableResult
  func failOver(outliving: Bool, latest: Int = .max) -> Bool {
    guard !images.isEmpty else { return false }
    let index = images.count - 1 - world.random.below(min(latest, images.count))
    let image = images[index]
    // A tailer whose connection is led on to another server notices by the counted writes that are lost. Without any,
    // SCAN's cursor would go on in another server's order: the README excludes such a proxy.
    let isNoticed = image.data.counted != data.counted
    let outliving = outliving && (isNoticed || !isBeingScanned(data) && !isBeingScanned(image.data))
    let hasLost = image.writes != writes
    let weakness = data.weakness
    data = image.data
    data.weakness = weakness
    writes = image.writes
    images.removeSubrange((index + 1)...)
    if hasLost { losses += 1 }
    world.count(hasLost ? "failover that loses" : "failover that loses nothing")
    world.shuffle(&layout)
    if outliving {
      incarnation += 1
      waiting = []
      for link in links { link.reroute() }
      // XREAD was waiting at the other server; the proxy breaks those that wait.
      for host in world.hosts { host.feedBroke() }
    } else {
      breakAll()
    }
    return true
  }

  private func isBeingScanned(_ data: ModelRedis) -> Bool {
    data.state.map { !$0.trusted || !$0.pending.isEmpty } ?? true
  }

  func loseAll() {
    let weakness = data.weakness
    data = ModelRedis()
    data.weakness = weakness
    losses += 1
    written(nil)
  }

  func evictState() {
    data.meta = .missing
    losses += 1
    written(nil)
  }

  func evictJournal() {
    guard let g = data.hash?.g else { return }
    data.journals[g] = nil
    written(data.hash)
  }

  func trimJournal() {
    guard let g = data.hash?.g, case .present(let journal)? = data.journals[g] else { return }
    var left = world.random.below(journal.entries.count + 1)
    data.trim(g) { _ in
      left -= 1
      return left >= 0
    }
  }

  func evictValue() { data.values[world.keys[world.random.below(world.keys.count)].name] = nil }

  func moveClock() {
    clockOffset += Int64(world.random.below(20_000 as UInt64)) - 10_000
    clockOffset = max(clockOffset, -900_000)
  }
}
