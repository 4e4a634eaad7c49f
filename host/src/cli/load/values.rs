//! How values are written on the command line.

use rumqttc::QoS;

/// Lines, PLCs of each line, tags of each PLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlantSize(pub u32, pub u32, pub u32);

/// `2x4x10` or `2×4×10`.
pub fn plant_size(text: &str) -> Result<PlantSize, String> {
    let numbers: Vec<Option<u32>> =
        text.split(['x', 'X', '×', '*']).map(|part| part.trim().parse().ok().filter(|n| *n > 0)).collect();
    match numbers.as_slice() {
        [Some(lines), Some(plcs), Some(tags)] => Ok(PlantSize(*lines, *plcs, *tags)),
        _ => Err("write lines, PLCs of each and tags of each, all from 1, as in 2x4x10".to_owned()),
    }
}

/// Messages a second: more than 0, up to 10 million.
pub fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.replace('_', "").parse().ok();
    number.filter(|n| *n > 0.0 && *n <= 1e7).ok_or_else(|| "write messages a second, as in 200 or 0.5".to_owned())
}

/// `1%` or `0.01`.
pub fn share(text: &str) -> Result<f64, String> {
    let number = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|n| n / 100.0),
        None => text.trim().parse(),
    };
    let fits = |n: &f64| (0.0..=1.0).contains(n);
    number.ok().filter(fits).ok_or_else(|| "write a share of the messages, as in 1% or 0.01".to_owned())
}

/// `0` or `1`.
pub fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Err("Tidegate takes QoS 0 and 1 only, so there is no load at QoS 2".to_owned()),
        _ => Err("write 0 (at most once) or 1 (at least once)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: each way of writing a value means what it says, and what is no value is refused.
    #[test]
    fn values() {
        assert_eq!(plant_size("2x4x10"), Ok(PlantSize(2, 4, 10)));
        assert_eq!(plant_size("2×4×10"), Ok(PlantSize(2, 4, 10)));
        for bad in ["", "2x4", "2x4x0", "2x4x10x1", "axbxc", "-1x1x1"] {
            assert!(plant_size(bad).is_err(), "{bad}");
        }
        assert_eq!((share("1%"), share("0.25"), share("100 %")), (Ok(0.01), Ok(0.25), Ok(1.0)));
        assert!(share("2").is_err() && share("-1%").is_err() && share("NaN").is_err());
        assert_eq!((rate("0.5"), rate("50_000")), (Ok(0.5), Ok(50_000.0)));
        assert!(rate("0").is_err() && rate("inf").is_err() && rate("NaN").is_err());
        assert!(qos("1").is_ok() && qos("2").is_err_and(|e| e.contains("QoS 2")));
    }
}
