import Invalidation
import Testing

@testable import NearCache

@Suite("What became of keys")
struct ChronicleTests {
  private func at(_ second: UInt64) -> Instant { Instant(nanoseconds: second) }
  private let lease = Lease(generation: Generation(1), stamp: Stamp(visible: LSN(7), deletions: 2))

  @Test("of each kind the newest record of a key is told, and how often it was refused")
  func newest() {
    var chronicle = Chronicle(capacity: 4)
    #expect(chronicle.account(of: 1) == Chronicle.Account())
    chronicle.filled(1, by: "set", under: lease, at: at(1))
    chronicle.filled(1, by: "mset", under: lease, at: at(2))
    chronicle.filled(2, by: "setex", under: lease, at: at(3))
    chronicle.filled(1, by: "set", under: nil, refusal: .young, at: at(4))
    chronicle.filled(1, by: "set", under: lease, refusal: .fence, at: at(5))
    chronicle.removed(1, KeyInvalidation(position: LSN(9), origin: nil), at: at(6))
    let account = chronicle.account(of: 1)
    #expect(account.stored == Chronicle.Fill(key: 1, at: at(2), command: "mset", lease: lease, refusal: nil))
    #expect(account.refused?.refusal == .fence)
    #expect(account.refusals == 2)
    #expect(account.removal?.at == at(6))
    #expect(chronicle.account(of: 3, groups: [4, 1]).removal?.cause.position == LSN(9))
    #expect(chronicle.account(of: 3).removal == nil)
  }

  @Test("records beyond the capacity push out the oldest of their kind only")
  func bounded() {
    var chronicle = Chronicle(capacity: 3)
    chronicle.filled(9, by: "set", under: lease, refusal: .late, at: at(0))
    for key in 1...5 as ClosedRange<UInt64> {
      chronicle.filled(key, by: "set", under: lease, at: at(key))
      chronicle.removed(key, KeyInvalidation(position: LSN(key), origin: nil), at: at(key))
    }
    #expect((1...5).map { chronicle.account(of: $0).stored != nil } == [false, false, true, true, true])
    #expect((1...5).map { chronicle.account(of: $0).removal != nil } == [false, false, true, true, true])
    #expect(chronicle.account(of: 9).refusals == 1)
    chronicle.filled(5, by: "get", under: lease, at: at(9))
    #expect(chronicle.account(of: 5).stored?.command == "get")
    chronicle.filled(6, by: "set", under: lease, at: at(10))
    #expect(chronicle.account(of: 5).stored?.at == at(9))
  }

  @Test("a generation is dated when it was first heard of")
  func generations() {
    var chronicle = Chronicle()
    chronicle.began(Generation(1), at: at(1))
    chronicle.began(Generation(1), at: at(2))
    #expect(chronicle.beginning == Chronicle.Beginning(generation: Generation(1), at: at(1)))
    chronicle.began(Generation(2), at: at(3))
    #expect(chronicle.beginning?.at == at(3))
  }

  @Test("every reason is a word and a sentence, and every word of a script has one")
  func reasons() {
    for reason in FillRefusal.allCases {
      #expect(!reason.explanation.isEmpty && !reason.explanation.hasSuffix("."))
    }
    for word in ["NOSTATE", "GEN", "FLOOR", "FENCE", "UNTRUSTED"] {
      #expect(FillRefusal(script: word) != .outdated)
    }
    for refusal in Refusal.allCases { #expect(FillRefusal(refusal).rawValue == refusal.rawValue) }
  }
}
