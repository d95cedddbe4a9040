import Testing

@testable import Invalidation

@Suite("Whether a slot costs too much")
struct SlotGuardTests {
  private func health(_ mebibytes: UInt64, _ status: String = "reserved") -> SlotHealth {
    SlotHealth(walStatus: status, retained: mebibytes << 20, safe: nil)
  }

  @Test("Beyond the bound it is given up, at the bound it is not")
  func bound() {
    var slot = SlotGuard(bound: 100 << 20)
    #expect(slot.heard(health(10)) == .keep)
    #expect(
      slot.heard(SlotHealth(walStatus: "extended", retained: (100 << 20) + 1, safe: nil))
        == .giveUp(
          "the replication slot keeps 100 MiB of log on the server, more than postgres.slot.maxRetained (100 MiB) "
            + "allows"))
    if case .giveUp = slot.heard(health(100)) { Issue.record("at the bound") }
  }

  @Test(
    "Beyond half of it, and when the server is about to take it away, a person is told, once, and once when it ends"
  )
  func warnings() {
    var slot = SlotGuard(bound: 100 << 20)
    guard case .warn(let half) = slot.heard(health(51)) else { return #expect(Bool(false)) }
    #expect(half.contains("51 MiB") && half.contains("beyond 100 MiB"))
    #expect(slot.heard(health(60)) == .keep)
    #expect(slot.heard(health(50)) == .relieved)
    #expect(slot.heard(health(50)) == .keep)
    guard case .warn(let unreserved) = slot.heard(health(1, "unreserved")) else {
      return #expect(Bool(false))
    }
    #expect(unreserved.contains("max_slot_wal_keep_size"))
  }

  @Test("Without a bound it is never given up, however much it keeps, and nothing is made of what is unknown")
  func unbounded() {
    var slot = SlotGuard(bound: nil)
    #expect(slot.heard(health(1 << 30)) == .keep)
    var bounded = SlotGuard(bound: 1)
    #expect(bounded.heard(SlotHealth(walStatus: nil, retained: nil, safe: nil)) == .keep)
  }
}
