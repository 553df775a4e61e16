//! Which worker has which applications.

/// The applications of a place, by their places in the plan, where there are `workers` places. Applications that want all
/// workers are everywhere; the others are spread so that no place has many of them while another has few.
///
/// The same for all who ask, so that nothing has to be remembered.
pub fn applications_of(place: u32, workers: u32, limits: &[Option<u32>]) -> Vec<usize> {
    let mut held = vec![0_u32; workers as usize];
    let mut found = Vec::new();
    for (app, limit) in limits.iter().enumerate() {
        let Some(limit) = limit.filter(|limit| *limit < workers) else {
            found.push(app);
            continue;
        };
        let mut places: Vec<usize> = (0..held.len()).collect();
        places.sort_by_key(|&place| held[place]);
        for &chosen in places.iter().take(limit as usize) {
            held[chosen] += 1;
            if chosen == place as usize {
                found.push(app);
            }
        }
    }
    if place < workers { found } else { Vec::new() }
}

/// Those of all places together, for one process that runs them: each as often as there would be workers that have it.
pub(super) fn all_applications(workers: u32, limits: &[Option<u32>]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..workers)
        .flat_map(|place| applications_of(place, workers, limits))
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::{all_applications, applications_of};

    fn all(workers: u32, limits: &[Option<u32>]) -> Vec<Vec<usize>> {
        let places = 0..workers;
        places
            .map(|place| applications_of(place, workers, limits))
            .collect()
    }

    #[test]
    fn each_application_is_at_as_many_places_as_it_wants() {
        for workers in 0..6 {
            for one in 0..4 {
                for two in 0..4 {
                    let limits = [None, (one > 0).then_some(one), (two > 0).then_some(two)];
                    let places = all(workers, &limits);
                    for (app, limit) in limits.iter().enumerate() {
                        let having = places.iter().filter(|apps| apps.contains(&app)).count();
                        assert_eq!(having, limit.unwrap_or(workers).min(workers) as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn one_process_has_each_as_often_as_there_would_be_workers() {
        assert_eq!(
            all_applications(3, &[None, Some(2), Some(9)]),
            [0, 0, 0, 1, 1, 2, 2, 2]
        );
        assert_eq!(all_applications(0, &[None]), []);
    }

    #[test]
    fn heavy_ones_are_spread() {
        assert_eq!(
            all(4, &[Some(2), Some(2)]),
            [vec![0], vec![0], vec![1], vec![1]]
        );
        assert_eq!(all(2, &[Some(1), None, Some(1)]), [vec![0, 1], vec![1, 2]]);
        assert!(applications_of(2, 2, &[None]).is_empty());
    }
}
