//! A view is known to all roles as soon as one of them made it.

use super::*;

#[tokio::test]
async fn a_view_that_another_role_changed_is_known_at_once() {
    let mut world = World::new().await;
    let read =
        |stages: Vec<Document>| doc! { "aggregate": "shown", "pipeline": stages, "cursor": {} };
    let shown = doc! { "$project": { "x": "$ssn" } };
    let over =
        |name: &str| doc! { "collMod": "shown", "viewOn": name, "pipeline": [shown.clone()] };
    let made = doc! { "create": "shown", "viewOn": "orders", "pipeline": [shown.clone()] };
    world.intake.run(&made).await;
    // It has nothing sealed, and both know that for a while.
    let by_token = || vec![doc! { "$group": { "_id": "$x.e1" } }];
    world.support.run(&read(by_token())).await;
    world.billing.run(&read(vec![])).await;
    world.intake.run(&over("customers")).await;
    let answer = world.support.ask(&read(by_token())).await;
    assert_eq!(answer.get_f64("ok").ok(), Some(0.0), "{answer}");
    let equal = doc! { "$group": { "_id": "$x" } };
    world.support.refused(&read(vec![equal])).await;
    assert!(!world.support.saw_a_canary());
}
