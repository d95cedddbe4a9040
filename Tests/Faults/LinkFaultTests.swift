import TestSupport
import Testing

/// Each path of a host, harmed in each way. The row changes while the path is harmed: the value of before may be
/// served for as long as the bound, and not at all once the fleet is well again.
@Suite("Connections that break, hang and crawl")
struct LinkFaultTests {
  enum Path: String, CaseIterable, CustomTestStringConvertible {
    case tailerToPostgres = "tailer to PostgreSQL"
    case tailerToRedis = "tailer to Redis"
    case followerToRedis = "follower to Redis"
    var testDescription: String { rawValue }
  }

  enum Harm: String, CaseIterable, CustomTestStringConvertible {
    case cut, refused, frozen
    case requestsLost = "requests lost"
    case repliesLost = "replies lost"
    case slow
    var testDescription: String { rawValue }

    func act(on proxy: FaultProxy) {
      switch self {
      case .cut: proxy.cut()
      case .refused:
        proxy.refuse()
        proxy.cut()
      case .frozen: proxy.freeze()
      case .requestsLost: proxy.freeze([.toServer])
      case .repliesLost: proxy.freeze([.toClient])
      case .slow: proxy.delay(.milliseconds(300))
      }
    }
  }

  @Test("A value of before is served for no longer than the bound", arguments: Path.allCases)
  func harm(path: Path) throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    let tailer = try cluster.waitForTailer()
    let follower = try cluster.follower()
    for (number, harm) in Harm.allCases.enumerated() {
      let id = number + 1
      try cluster.waitUntilWell()
      // Who tails may have changed.
      let tails = try cluster.waitForTailer().number == tailer.number ? tailer : follower
      let other = tails.number == tailer.number ? follower : tailer
      let host = path == .followerToRedis ? other : tails
      let proxy = path == .tailerToPostgres ? host.postgresLink : host.redisLink
      try cluster.warm(id)
      harm.act(on: proxy)
      try cluster.change(id)
      let changed = bootMoment()
      try cluster.expectBounded(id, from: changed)
      proxy.heal()
      let healed = bootMoment()
      try cluster.waitUntilWell(since: healed, within: .seconds(15))
      try cluster.settle()
      try cluster.expectMiss(id, "\(harm) \(path)")
    }
    try cluster.expectSound()
  }

  @Test("A narrow path to PostgreSQL delays what comes after much, and no more")
  func narrow() throws {
    let cluster = try Cluster()
    try cluster.warm(1)
    let tailer = try cluster.waitForTailer()
    tailer.postgresLink.throttle(bytesPerSecond: 30_000)
    try cluster.sql("UPDATE kv SET note = repeat('x', 1000)")
    let changed = bootMoment()
    try cluster.expectBounded(1, from: changed)
    tailer.postgresLink.heal()
    try cluster.settle()
    try cluster.expectSound()
  }
}
