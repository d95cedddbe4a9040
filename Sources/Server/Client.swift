import DequeModule
import Glibc
import Invalidation

/// Names a client for as long as the process lives: a slot may be taken by another one after it.
struct ClientToken: Equatable {
  var slot: Int32
  var serial: UInt32
}

/// One connection of an application.
struct Client: ~Copyable {
  /// What stands between the replies already written and those to come, in the order of the requests.
  enum Owed {
    /// Redis has not answered yet.
    case awaited
    /// Answered here, behind something that is still awaited.
    case ready([UInt8])
  }

  enum Pause: Equatable {
    case none
    /// Until everything owed has been answered: the next command changes how replies are written.
    case drain
    /// Until a position has been applied, or the deadline has come.
    case position(LSN, deadline: Instant)
    /// Until another generation than this one has begun, or the deadline has come.
    case generation(after: Generation?, deadline: Instant)
  }

  let descriptor: Int32
  let token: ClientToken
  /// Unique in this process, as CLIENT ID answers it.
  let id: Int
  let connectedAt: Instant

  var input = IOBuffer(size: 16 * 1024)
  var output = IOBuffer(size: 16 * 1024)
  var parser = RequestParser()
  var owed = Deque<Owed>()
  var resp3 = false
  var pause = Pause.none
  /// Set by QUIT and by protocol errors: whatever comes next is not read, and the connection ends once
  /// everything owed has been sent.
  var isClosing = false
  var wantsWrite = false
  var readsPaused = false

  /// When the descriptor was last seen empty by a read, and in which poll it was last reported readable:
  /// from these follows the last moment at which nothing waited in the socket.
  var drainedAt: Instant
  var reportedIn: UInt64 = 0
  /// That moment, as of the commands being executed: a SET cannot have been sent before it and still wait.
  var emptyAt: Instant

  var name = ""
  var libraryName = ""
  var libraryVersion = ""

  init(descriptor: Int32, token: ClientToken, id: Int, now: Instant) {
    self.descriptor = descriptor
    self.token = token
    self.id = id
    connectedAt = now
    drainedAt = now
    emptyAt = now
  }

  deinit { close(descriptor) }

  /// Appends a reply in its turn.
  mutating func reply(_ write: (inout IOBuffer) -> Void) {
    if owed.isEmpty { return write(&output) }
    var late = IOBuffer(size: 256)
    write(&late)
    if case .ready(let before) = owed[owed.count - 1] {
      owed[owed.count - 1] = .ready(before + late.bytes)
    } else {
      owed.append(.ready([UInt8](late.bytes)))
    }
  }

  /// The oldest awaited reply has come; what was answered behind it follows.
  mutating func settle(_ write: (inout IOBuffer) -> Void) {
    guard case .awaited? = owed.popFirst() else {
      preconditionFailure("a reply came that nobody awaits")
    }
    write(&output)
    while case .ready(let bytes)? = owed.first {
      output.append(bytes)
      owed.removeFirst()
    }
  }
}
