//! Stages that write: `$out` and `$merge`, into collections where the same is sealed.

use super::{Outcome, Result, Stage};
use crate::raw::{Element, Malformed, Splicer, kind};
use crate::rewrite::expression::{Variable, Want};
use crate::rewrite::scope::Scope;
use crate::rewrite::shape::{Content, Shape};

const SAME: &str = "write into a collection where the same fields are sealed under one `identity`, or leave them out";

/// The database and the name in `"name"` or `{db, coll}`.
pub(super) fn namespace<'m>(
    database: &'m str,
    element: &Element<'m>,
) -> Result<(&'m str, Element<'m>)> {
    if element.kind != kind::DOCUMENT {
        return Ok((database, *element));
    }
    let doc = element.doc()?;
    let database = match doc.find_once("db")? {
        Some(name) => name
            .str()
            .ok_or(Malformed("a database is not named by a string"))?,
        None => database,
    };
    let collection = doc
        .find_once("coll")?
        .ok_or(Malformed("a stage names no collection"))?;
    Ok((database, collection))
}

impl Stage<'_> {
    /// `$out`.
    pub(super) fn out(&self, stage: &Element<'_>) -> Result<Outcome> {
        let target = self.target(stage)?;
        self.fits(&target)?;
        Ok(Content::Open.into())
    }

    /// `$merge`.
    pub(super) fn merge<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        if stage.kind == kind::STRING {
            return self.out(stage);
        }
        let options = stage.object()?;
        let into = options
            .find_once("into")?
            .ok_or(Malformed("$merge has no `into`"))?;
        let target = self.target(&into)?;
        self.fits(&target)?;
        let variables = match options.find_once("let")? {
            Some(variables) => self.bound(Some(&variables))?,
            None => vec![("new", self.root.clone(), true)],
        };
        let mark = splicer.mark();
        for option in options.elements() {
            let option = option?;
            match option.key {
                "into" | "whenNotMatched" => {}
                "on" => self.on(&option, &target)?,
                "let" => {
                    let mark = splicer.mark();
                    for variable in option.object()?.elements() {
                        self.expressions().rewrite(
                            splicer,
                            &variable?,
                            Want::Value,
                            self.environment(),
                        )?;
                    }
                    splicer.mend_length(option.object()?.start(), mark)?;
                }
                "whenMatched" if option.kind == kind::ARRAY => {
                    let mut documents = super::Documents::of(target.clone());
                    let collection = documents
                        .collection(self.pipeline.namespace, self.pipeline.on_plaintext.get());
                    let stages = option.array()?;
                    let mark = splicer.mark();
                    Variable::bind(&variables, None, &mut |bound| {
                        let mut scope = self.pipeline.scope(&collection);
                        scope.variables = bound;
                        super::update::stages(splicer, &scope, stages, &target, 0)?;
                        if scope.compared.get() {
                            self.scope.compared.set(true);
                        }
                        Ok(())
                    })?;
                    splicer.mend_length(stages.start(), mark)?;
                }
                "whenMatched" => {}
                other => return Err(self.unknown_option(other)),
            }
        }
        splicer.mend_length(options.start(), mark)?;
        Ok(Content::Open.into())
    }

    /// The fields that tell which document is meant have to be open.
    fn on(&self, option: &Element<'_>, target: &Content) -> Result {
        let name = |element: &Element<'_>| -> Result {
            let path = element.str().ok_or(Malformed("`on` takes strings"))?;
            self.open_path(path, "merge by open fields")?;
            let open = match target {
                Content::Document(shape) => {
                    shape.stands(path).is_some_and(|content| content.is_open())
                }
                _ => true,
            };
            if open {
                return Ok(());
            }
            Err(self.scope.refuse(path, self.what, "merge by open fields"))
        };
        if option.kind == kind::STRING {
            return name(option);
        }
        for element in option.array()?.elements() {
            name(&element?)?;
        }
        Ok(())
    }

    /// What the documents of a collection that is written to have to be.
    fn target(&self, element: &Element<'_>) -> Result<Content> {
        let (database, name) = namespace(self.pipeline.database, element)?;
        let collection = name
            .str()
            .ok_or(Malformed("a collection is not named by a string"))?;
        let policy = self.pipeline.policy;
        if crate::rewrite::reach::defines_views(policy, database, collection)
            || self.pipeline.views.reaching(database, collection)
        {
            return Err(self.pipeline.refuse_reach(
                self.what,
                collection,
                "write to the collection itself",
            ));
        }
        let Some(sealed) = policy.collection(&format!("{database}.{collection}")) else {
            return Ok(Content::Open);
        };
        Scope::new(self.scope.command, &sealed, false)
            .writable("what a stage writes would replace it: write into another collection")?;
        let brings_plaintext = self.pipeline.on_plaintext.get().is_expected();
        if brings_plaintext && !sealed.on_plaintext.is_expected() && !self.root.is_open() {
            return Err(self.scope.refuse(
                &self.root.sealed_path(),
                self.what,
                "plaintext is expected in what it reads and not where it writes: set on_plaintext of the one as it is of the other",
            ));
        }
        Ok(self.pipeline.stored(&sealed).content)
    }

    fn fits(&self, target: &Content) -> Result {
        let root = match self.root {
            Content::Open => Content::Document(Shape::default()),
            root => root.clone(),
        };
        let target = match target {
            Content::Open => Content::Document(Shape::default()),
            target => target.clone(),
        };
        if root.fits(&target) {
            return Ok(());
        }
        let path = match root.sealed_path() {
            path if path.is_empty() => target.sealed_path(),
            path => path,
        };
        Err(self.scope.refuse(&path, self.what, SAME))
    }
}
