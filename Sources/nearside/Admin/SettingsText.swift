import Configuration
import Metrics

/// Settings as JSON, under the names that they have in the source: durations are nanoseconds, sizes are bytes.
/// A secret shows as `***`, since nothing looks into it (`Secret.customMirror`).
enum SettingsText {
  static func json(_ settings: Settings) -> JSONText {
    .object([
      JSONText.Member(name: "schema", value: 1), .init(name: "settings", value: value(settings)),
    ])
  }

  private static func value(_ any: Any) -> JSONText {
    switch any {
    case let text as String: return .text(text)
    case let number as any BinaryInteger: return .whole(Int(clamping: number))
    case let number as Double: return .real(number)
    case let flag as Bool: return .flag(flag)
    case is Secret: return "***"
    case let template as KeyTemplate: return .text(template.text)
    default: break
    }
    let mirror = Mirror(reflecting: any)
    switch mirror.displayStyle {
    case .optional: return mirror.children.first.map { value($0.value) } ?? .null
    case .collection: return .list(mirror.children.map { value($0.value) })
    case .set: return .list(mirror.children.map { "\($0.value)" }.sorted().map { .text($0) })
    case .enum where mirror.children.isEmpty: return .text("\(any)")
    case .struct, .class, .tuple, .enum:
      return .object(
        mirror.children.enumerated().map { .init(name: $1.label ?? "\($0)", value: value($1.value)) })
    default: return .text("\(any)")
    }
  }
}
