import Invalidation

/// The options behind SET's value and behind GETEX's key. An option that cannot stand where it does is a
/// syntax error, as Redis has it (t_string.c, `parseExtendedStringArgumentsOrReply`).
struct StringOptions {
  enum Condition { case none, absent, present }

  var condition = Condition.none
  /// GET: the answer is the old value.
  var returnsOld = false
  var keepsTime = false
  var persists = false
  /// The end that was given, and which argument its digits are; the last one counts.
  var time: (form: GivenTime.Form, digits: Int)?

  /// Reads the arguments from `first` on. `isSet`: SET's, otherwise GETEX's.
  init(_ request: Request, from first: Int, isSet: Bool) throws(ErrorReply) {
    var index = first
    while index < request.count {
      let word = request.word(index)
      switch word {
      case "nx" where isSet && condition != .present: condition = .absent
      case "xx" where isSet && condition != .absent: condition = .present
      case "get" where isSet: returnsOld = true
      case "keepttl" where isSet && time == nil: keepsTime = true
      case "persist" where !isSet && time == nil: persists = true
      default:
        guard let form = GivenTime.Form(option: word), index + 1 < request.count, !keepsTime, !persists,
          time == nil || time?.form == form
        else { throw .syntax }
        index += 1
        time = (form, index)
      }
      index += 1
    }
  }

  private init() {}

  /// What SETEX, PSETEX, SETNX and GETSET ask for in words of SET, and which argument is the value.
  static func set(_ request: Request, _ name: String) throws(ErrorReply) -> (StringOptions, value: Int) {
    var options = StringOptions()
    switch name {
    case "setex":
      options.time = (.seconds, 2)
      return (options, 3)
    case "psetex":
      options.time = (.milliseconds, 2)
      return (options, 3)
    case "setnx": options.condition = .absent
    case "getset": options.returnsOld = true
    default: options = try StringOptions(request, from: 3, isSet: true)
    }
    return (options, 2)
  }

  /// Whether the command must know what is there.
  var looks: Bool { condition != .none || returnsOld || keepsTime }
}

extension GivenTime.Form {
  init?(option word: String) {
    switch word {
    case "ex": self = .seconds
    case "px": self = .milliseconds
    case "exat": self = .secondsAt
    case "pxat": self = .millisecondsAt
    default: return nil
    }
  }
}

/// The options of EXPIRE and its kin (Redis's expire.c, `parseExtendedExpireArgumentsOrReply`).
struct ExpiryCondition {
  private var whenNone = false
  private var whenSome = false
  private var whenLater = false
  private var whenSooner = false

  init(_ request: Request) throws(ErrorReply) {
    for index in 3..<max(3, request.count) {
      switch request.word(index) {
      case "nx": whenNone = true
      case "xx": whenSome = true
      case "gt": whenLater = true
      case "lt": whenSooner = true
      default:
        let option = String(decoding: request[index].map { $0 == 13 || $0 == 10 ? 32 : $0 }, as: UTF8.self)
        throw ErrorReply("ERR Unsupported option \(option)")
      }
    }
    if whenNone, whenSome || whenLater || whenSooner {
      throw ErrorReply("ERR NX and XX, GT or LT options at the same time are not compatible")
    }
    if whenLater, whenSooner {
      throw ErrorReply("ERR GT and LT options at the same time are not compatible")
    }
  }

  /// Whether an end at `new` may take the place of `old`. No end counts as the latest of all.
  func isMet(_ old: Int?, by new: Int) -> Bool {
    if whenNone, old != nil { return false }
    if whenSome, old == nil { return false }
    if whenLater { return old.map { new > $0 } ?? false }
    if whenSooner { return old.map { new < $0 } ?? true }
    return true
  }
}
