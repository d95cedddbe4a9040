import Glibc
import Testing

@testable import TLS

@Suite("What a connection of the pump waits for")
struct FlowTests {
  private let read = Int16(POLLIN)
  private let write = Int16(POLLOUT)

  @Test("At rest it reads from both sides and writes to none")
  func rest() {
    let flow = Flow()
    #expect(flow.networkEvents == read && flow.callerEvents == read)
    #expect(!flow.isFinished && !flow.isLingering)
  }

  @Test("A side is not read while the other has not taken what came before")
  func backPressure() {
    var flow = Flow()
    flow.hasIncoming = true
    #expect(flow.networkEvents == nil && flow.callerEvents == read | write)
    flow = Flow()
    flow.hasOutgoing = true
    #expect(flow.networkEvents == read | write && flow.callerEvents == 0)
    flow.hasIncoming = true
    #expect(flow.networkEvents == write && flow.callerEvents == write)
  }

  @Test("When new keys are agreed on, writing waits for reading, and reading for writing")
  func newKeys() {
    var flow = Flow()
    flow.hasOutgoing = true
    flow.writeNeeds = POLLIN
    #expect(flow.networkEvents == read)
    flow.hasIncoming = true
    #expect(flow.networkEvents == read)
    flow = Flow()
    flow.readNeeds = POLLOUT
    #expect(flow.networkEvents == write)
  }

  @Test("What the network sent last reaches the caller before the connection ends")
  func networkEnds() {
    var flow = Flow()
    flow.networkEnded = true
    #expect(flow.isFinished)
    flow.hasIncoming = true
    #expect(!flow.isFinished && flow.networkEvents == nil)
    #expect(flow.callerEvents.map { $0 & write } == write)
    flow.callerGone = true
    #expect(flow.isFinished)
  }

  @Test("A caller that sends nothing more may still listen")
  func halfClosed() {
    var flow = Flow()
    flow.callerEnded = true
    #expect(!flow.isFinished && !flow.isLingering)
    #expect(flow.networkEvents == read && flow.callerEvents == 0)
  }

  @Test("What a caller sent before it closed goes to the network, and what comes from there nowhere")
  func callerGone() {
    var flow = Flow()
    flow.callerGone = true
    flow.hasOutgoing = true
    #expect(flow.isLingering && flow.networkEvents == write)
    // Its socket would tell of its end again and again.
    #expect(flow.callerEvents == nil)
    flow.hasOutgoing = false
    #expect(flow.isLingering && flow.callerEvents == read && flow.networkEvents == nil)
    flow.callerEnded = true
    #expect(flow.isFinished && !flow.isLingering)
  }

  @Test("A network that takes nothing more is still read: it may say why")
  func cannotSend() {
    var flow = Flow()
    flow.cannotSend = true
    flow.hasOutgoing = true
    #expect(flow.networkEvents == read && flow.callerEvents == 0 && !flow.isFinished)
    flow.callerGone = true
    #expect(flow.isFinished)
  }
}
