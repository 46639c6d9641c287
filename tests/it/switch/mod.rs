mod strategies;
mod strategy_rules;
mod behind_the_cut;
