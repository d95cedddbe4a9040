import Configuration

typealias Reading = ConfigurationReader.Reading

/// Reads a configuration as `config.json`, with these environment variables and files.
func read(
  _ text: String, file: String = "config.json", environment: [String: String] = [:],
  files: [String: String] = [:]
) -> Reading {
  ConfigurationReader.read(Array(text.utf8), file: file, environment: environment) { path in
    files[path].map { Array($0.utf8) }
  }
}

/// `line:column+length code sentence` of every diagnostic; one without a place begins with its code.
func summary(_ diagnostics: [Diagnostic]) -> [String] {
  diagnostics.map { diagnostic in
    let place = diagnostic.place.map { "\($0.line):\($0.column)+\($0.length) " } ?? ""
    let severity = diagnostic.severity == .warning ? "warning " : ""
    return "\(place)\(severity)\(diagnostic.code) \(diagnostic.sentence)"
  }
}

/// The summary of reading a file with these members, of which the tables are only there to be complete.
func complaints(
  _ members: String, environment: [String: String] = [:], files: [String: String] = [:]
) -> [String] {
  let text = "{\(members),\n\"tables\": {\"t\": \"k:{id}\"}}"
  return summary(read(text, environment: environment, files: files).diagnostics)
}

/// A small generator with a seed (SplitMix64), so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
