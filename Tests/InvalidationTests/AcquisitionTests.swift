import Invalidation
import Testing

@Suite("What to do with the slot just acquired")
struct AcquisitionTests {
  enum Expected { case resume, begin, refuse }

  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var reply: StateReply
    var created = false
    var confirmed: UInt64 = 100
    var regressed = false
    var expected: Expected
    var old: UInt64?
    var testDescription: String { name }
  }

  static let cases: [Case] = [
    Case(name: "all is as it was", reply: .takenOver(taken()), expected: .resume),
    Case(name: "the slot is behind V", reply: .takenOver(taken()), confirmed: 99, expected: .resume),
    Case(name: "not yet cleared", reply: .takenOver(taken(cleared: false)), expected: .resume),
    Case(name: "V behind W", reply: .takenOver(taken(applied: 200)), expected: .resume),
    Case(
      name: "a hole: the slot is beyond V", reply: .takenOver(taken()), confirmed: 101, expected: .begin,
      old: 1),
    Case(
      name: "a hole, although W is as far", reply: .takenOver(taken(applied: 101)), confirmed: 101,
      expected: .begin, old: 1),
    Case(
      name: "the slot is new", reply: .takenOver(taken()), created: true, expected: .begin, old: 1),
    Case(
      name: "the slot is new and lies below V", reply: .takenOver(taken()), created: true, confirmed: 50,
      expected: .begin, old: 1),
    Case(
      name: "transactions were being watched", reply: .takenOver(taken(watching: true)), expected: .begin,
      old: 1),
    Case(name: "regressed", reply: .takenOver(taken()), regressed: true, expected: .begin, old: 1),
    Case(
      name: "V beyond W", reply: .takenOver(taken(applied: 100, visible: 101)), expected: .begin, old: 1),
    Case(name: "no state", reply: .noState, expected: .begin),
    Case(name: "no state, new slot", reply: .noState, created: true, expected: .begin),
    Case(name: "no state, regressed", reply: .noState, regressed: true, expected: .begin),
    Case(
      name: "timeline or mapping", reply: .needsGeneration(Generation(5)), expected: .begin, old: 5),
    Case(
      name: "the same with a new slot", reply: .needsGeneration(Generation(5)), created: true,
      regressed: true,
      expected: .begin, old: 5),
    Case(name: "another system", reply: .otherSystem("7"), expected: .refuse),
    Case(
      name: "another system, new slot", reply: .otherSystem("7"), created: true, regressed: true,
      expected: .refuse),
    Case(name: "an abandoned primary", reply: .olderTimeline("00000002"), expected: .refuse),
    Case(
      name: "an abandoned primary, new slot", reply: .olderTimeline("00000002"), created: true,
      expected: .refuse),
    Case(name: "fenced", reply: .fenced, expected: .refuse),
    Case(name: "a reply to something else", reply: .began, created: true, expected: .refuse),
    Case(name: "cleared", reply: .cleared, expected: .refuse),
    Case(name: "raced", reply: .raced, expected: .refuse),
    Case(name: "regressed answer", reply: .regressed, expected: .refuse),
    Case(
      name: "applied", reply: .applied(W: .zero, V: .zero, generationAsked: false), expected: .refuse),
    Case(name: "purge step", reply: .purgeStep(cursor: "0", removed: 0), expected: .refuse),
  ]

  @Test("each answer to a takeover leads to one thing", arguments: cases)
  func decide(_ item: Case) {
    let decision = Acquisition.decide(
      item.reply, slotCreated: item.created, confirmed: LSN(item.confirmed),
      written: .init(.max), canary: .holds(Generation(1)), regressed: item.regressed)
    switch (decision, item.expected) {
    case (.resume(let state), .resume): #expect(.takenOver(state) == item.reply)
    case (.begin(let old, let reason), .begin):
      #expect(old == item.old.map { Generation($0) })
      #expect(reason != "")
    case (.refuse(let sentence), .refuse): #expect(sentence.hasSuffix("."))
    default: Issue.record("\(decision)")
    }
  }

  @Test("every answer with every circumstance: a state is gone on with only if nothing speaks against it")
  func every() {
    for watching in [false, true] {
      for created in [false, true] {
        for regressed in [false, true] {
          for (applied, visible) in [(UInt64(100), UInt64(100)), (200, 100), (100, 150)] {
            for confirmed: UInt64 in [0, 99, 100, 101, 150, 151, 200, 201] {
              let state = taken(applied: applied, visible: visible, watching: watching)
              let decision = Acquisition.decide(
                .takenOver(state), slotCreated: created, confirmed: LSN(confirmed),
                written: .init(.max), canary: .holds(Generation(1)), regressed: regressed)
              let sound =
                !watching && !created && !regressed && confirmed <= visible && visible <= applied
              if sound {
                #expect(decision == .resume(state))
              } else if case .begin(let old, _) = decision {
                #expect(old == Generation(1))
              } else {
                Issue.record("\(decision)")
              }
            }
          }
        }
      }
    }
  }

  @Test("the hole's reason says on which side the slot stands")
  func wording() {
    let decision = Acquisition.decide(
      .takenOver(taken(applied: 0x100, visible: 0x100)), slotCreated: false, confirmed: LSN(0x200),
      written: .init(.max), canary: .holds(Generation(1)), regressed: false)
    #expect(
      decision
        == .begin(
          old: Generation(1),
          reason: "the replication slot has moved on to 0/200, but only changes up to 0/100 are known"))
  }

  @Test(
    "PostgreSQL itself may have gone back: an empty or foreign canary, none at all, a log that ends too early",
    arguments: [
      (Canary.holds(Generation(1)), 0x100, true), (.holds(Generation(1)), 0xff, false),
      (.holds(nil), 0x100, false),
      (.holds(Generation(2)), 0x100, false), (.unused, 0x100, false),
    ] as [(Canary, UInt64, Bool)])
  func wentBack(canary: Canary, written: UInt64, resumes: Bool) {
    let state = taken(applied: 0x100, visible: 0x100)
    let decision = Acquisition.decide(
      .takenOver(state), slotCreated: false, confirmed: LSN(0x100), written: LSN(written), canary: canary,
      regressed: false)
    switch decision {
    case .resume(let found): #expect(resumes && found == state)
    case .begin(let old, _): #expect(!resumes && old == Generation(1))
    case .refuse(let sentence): Issue.record("\(sentence)")
    }
  }
}
